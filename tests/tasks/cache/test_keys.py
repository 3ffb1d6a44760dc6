"""What changes a step's key, and what must not."""

from __future__ import annotations

import pyarrow as pa
import pytest

from quant_core.config import QuantizationConfig, config_from
from quant_core.pipeline.stages import EVALUATE, OWN_SCORE, PROBE, VERIFY
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.scoring.evaluator import Evaluator
from quant_core.scoring.sampling import Samples
from quant_core.storage.references import Reference
from quant_core.storage.tables import with_facts
from tasks.cache import keys as module
from tasks.cache.keys import step_key, with_key


def keyed_table(key):
    return with_key(pa.table({"a": [1]}), key)


def arguments(**changed):
    quantization = config_from(target={"metric": "l2", "limit": 1.0}).quantization()
    table = with_key(pa.table({"a": [1]}), "prepare-1")
    data = Reference(url="here.npz", sha256="d")
    plain = {"layers": table, "data": data, "plan": {"a": "a8w8", "b": "a16w8"}, "config": quantization, "start": 0}
    plain |= {"samples": Samples(data, 0, 8), "recipe": QuantizationRecipe(table, table, quantization)}
    return plain | changed


@pytest.mark.parametrize(
    "changed",
    [
        {"data": Reference(url="here.npz", sha256="e")},
        {"layers": with_key(pa.table({"a": [1]}), "prepare-2")},
        {"plan": {"a": "a8w8", "b": "a8w8"}},
        {"config": QuantizationConfig(per_channel=False)},
        {"start": 1},
        {"samples": Samples(Reference(url="here.npz", sha256="d"), 0, 9)},
        {"samples": Samples(Reference(url="here.npz", sha256="e"), 0, 8)},
        {"recipe": QuantizationRecipe(*[keyed_table("prepare-1")] * 2, QuantizationConfig(per_channel=False))},
        {"recipe": QuantizationRecipe(*[keyed_table("prepare-2")] * 2, QuantizationConfig())},
        {"function": "json:loads"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_key_changes_on(changed):
    assert step_key(PROBE, arguments(**changed)) != step_key(PROBE, arguments())


@pytest.mark.parametrize(
    "changed",
    [
        {"data": Reference(url="s3://bucket/there.npz", sha256="d")},
        {"layers": with_facts(with_key(pa.table({"a": [2]}), "prepare-1"), seconds=3)},
    ],
    ids=["where the data is", "what is not an input"],
)
def test_key_does_not_change_on(changed):
    assert step_key(PROBE, arguments(**changed)) == step_key(PROBE, arguments())


def test_key_does_not_depend_on_the_order_of_arguments():
    given = arguments()
    assert step_key(PROBE, dict(reversed(given.items()))) == step_key(PROBE, given)


def test_key_changes_on_the_step():
    assert step_key(PROBE, arguments()) != step_key(EVALUATE, arguments())


@pytest.mark.parametrize("what", ["kept_code_digest", "SCHEMA_VERSION"])
def test_key_changes_on_another_engine(monkeypatch, what):
    before = step_key(PROBE, arguments())
    monkeypatch.setattr(module, what, (lambda module: "other") if what == "kept_code_digest" else 99)
    assert step_key(PROBE, arguments()) != before


def test_an_edited_metric_is_another_metric(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_metric.py").write_text("def score(outputs, labels): return 1.0\n")
    before = step_key(VERIFY, arguments(function="my_metric:score"))
    (tmp_path / "my_metric.py").write_text("def score(outputs, labels): return 2.0\n")
    assert step_key(VERIFY, arguments(function="my_metric:score")) != before


def test_keys_are_file_names_that_begin_with_the_step():
    key = step_key(PROBE, arguments())
    assert key.startswith("probe-") and key.replace("-", "").isalnum()


def test_the_key_of_a_score_changes_on_the_command_and_its_files_not_on_the_time_limit(tmp_path):
    def key(**options):
        config = config_from(target={"metric": "score", "limit": 1}, **options)
        return step_key(OWN_SCORE, {"evaluator": Evaluator.of(config)})

    script = tmp_path / "board.sh"
    script.write_text("echo 1")
    before = key(evaluate_command=f"sh {script}")
    assert key(evaluate_command=f"sh {script}", evaluate_timeout=5) == before
    assert key(evaluate_command=f"sh {script} -q") != before
    script.write_text("echo 2")
    assert key(evaluate_command=f"sh {script}") != before
