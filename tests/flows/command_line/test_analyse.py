"""`narrowcast analyse` on a terminal, and `narrowcast auto --ranking`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from flows.command_line.analyse import analyse
from flows.command_line.auto import inputs_and_config
from quant_core.errors import InputError
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.fixture
def arguments(tmp_path):
    model = MODELS["residual"]()
    np.savez(tmp_path / "data.npz", **samples(model, 16))
    data = str(tmp_path / "data.npz")
    return [str(saved(model, tmp_path)), "--calibration", data, "--evaluation", data, "--out", str(tmp_path / "out")]


def test_tables_are_printed_and_json_where_asked_for(arguments, tmp_path):
    told = CliRunner().invoke(analyse, arguments)
    assert told.exit_code == 0 and "weights alone" in told.output and "no tensor has outliers" in told.output
    as_json = CliRunner().invoke(analyse, [*arguments, "--json", "--narrow", "a8w8,a8w4"])
    assert as_json.output == (tmp_path / "out" / "analysis.json").read_text()
    assert {loss["precision"] for loss in json.loads(as_json.output)["losses"]} == {"a8w8", "a8w4"}


def test_what_is_missing_is_said_and_what_an_analysis_has_not_is_no_option(arguments):
    assert "missing --evaluation, --out" in CliRunner().invoke(analyse, arguments[:3]).output
    assert "samples" in CliRunner().invoke(analyse, [*arguments, "--samples", "auto"]).exception.args[0]
    for flag in ("--max-l2", "--cost", "--search", "--format"):
        assert "No such option" in CliRunner().invoke(analyse, [*arguments, flag, "1"]).output


GIVEN = {"model": "m", "calibration": "c", "evaluation": "e", "out": "o", "max_l2": 1.0, "search": "bisect"}


def test_a_ranking_gives_options_and_what_it_leaves_empty_is_not_touched(tmp_path):
    ranking, options = tmp_path / "ranking.yaml", tmp_path / "quant.yaml"
    ranking.write_text("keep_wide: []\nexclude: [head]\norder: [b, a]\n")
    options.write_text("keep_wide: [stem]\nexclude: [tail]\n")
    _, config = inputs_and_config(str(options), GIVEN, str(ranking))
    assert (config.keep_wide, config.exclude, config.order) == (("stem",), ("head",), ("b", "a"))
    _, config = inputs_and_config(None, GIVEN | {"exclude": "x"}, str(ranking))
    assert config.exclude == ("x",)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("ordre: [a]", {}, "ranking.yaml:1: ordre"),
        ("order: [a]", {"search": "greedy"}, "order: goes with search='linear' or 'bisect'"),
        ("order: {a: 1}", {}, "order"),
    ],
)
def test_a_ranking_that_cannot_be_used_is_refused(tmp_path, text, given, message):
    (tmp_path / "ranking.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        inputs_and_config(None, GIVEN | given, str(tmp_path / "ranking.yaml"))
    assert message in str(caught.value)
