"""The table of options: what it holds, and what it writes of a configuration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_core.config import Criterion, LayerWiseConfig, MetricName, MixedPrecisionConfig, config_from
from quant_core.options import LIMITS, TargetOptions, flags_of, listed, number_text, options_of, target_flags


@pytest.mark.parametrize("kind", [MixedPrecisionConfig, LayerWiseConfig])
def test_every_field_but_the_target_is_a_row(kind):
    assert {row.name for row in options_of(kind)} == kind.model_fields.keys() - {"target", "also"}


@pytest.mark.parametrize("kind", [MixedPrecisionConfig, TargetOptions])
def test_help_is_a_short_sentence(kind):
    assert [row.name for row in options_of(kind) if not row.help.endswith(".") or len(row.help) > 90] == []


def test_every_metric_has_a_limit():
    assert set(LIMITS.values()) == set(MetricName.__args__)


def test_only_what_is_not_usual_is_written():
    assert list(flags_of(config_from(target={"metric": "l2", "limit": 0.5}))) == [("--max-l2", "0.5")]
    config = config_from(max_bops="40%", wide="float32", symmetric=False, exclude=["a,b", "c"], per_channel=False)
    assert set(flags_of(config)) == {
        ("--wide", "float32"),
        ("--no-symmetric", None),
        ("--no-per-channel", None),
        ("--exclude", '["a,b", "c"]'),
        ("--max-bops", "0.4"),
    }


@pytest.mark.parametrize("narrow", ["a8w8", "au8w8"])
def test_beside_float32_the_precisions_are_those_of_the_run(narrow):
    config = config_from(target={"metric": "l2", "limit": 1}, wide="float32", narrow=[narrow])
    assert ("--narrow" in dict(flags_of(config))) == (narrow == "a8w8")


def test_an_earlier_name_of_a_strategy_is_written_as_it_is_called_now():
    config = config_from(target={"metric": "l2", "limit": 1}, search="go-on")
    assert config == config_from(target={"metric": "l2", "limit": 1}, search="greedy")
    assert MixedPrecisionConfig.model_validate_json(config.model_dump_json().replace("greedy", "go-on")) == config


def test_what_is_measured_without_a_limit_is_written():
    assert list(target_flags(Criterion(metric="kl"))) == [("--metric", "kl")]
    assert list(target_flags(Criterion())) == []


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_the_same(value):
    assert float(number_text(value)) == value


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a8w8,a8w4", ["a8w8", "a8w4"]),
        ("a, b", ["a", "b"]),
        ('["a,b", "c"]', ["a,b", "c"]),
        ("[ab]*", ["[ab]*"]),
        ("[1]", ["[1]"]),
    ],
)
def test_a_list_is_read(text, names):
    assert listed(text) == names
