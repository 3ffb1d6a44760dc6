"""Arguments of a step, written as JSON and read again on a worker."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from quant_core.config import QuantizationConfig
from quant_core.errors import InputError
from quant_core.latency import layer_times
from quant_core.probing.probe import layer_sensitivity
from quant_core.probing.ranking import ranked_losses
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.scoring.evaluation import evaluate_plan
from quant_core.scoring.float_outputs import float_outputs
from quant_core.scoring.sampling import Samples
from quant_core.storage.references import Reference
from quant_core.storage.store import Store
from tasks.cache.keys import with_key
from tasks.cache.result_store import ResultStore
from tasks.executors.plain_arguments import plain, restored


@pytest.fixture
def results(tmp_path):
    return ResultStore(Store(str(tmp_path / "results")))


@pytest.fixture
def stored(results):
    """Makes a stored table of a key."""

    def made(key):
        table = with_key(pa.table({"of": [key]}), key)
        results.put(key, table)
        return results.load(key)

    return made


DATA = Reference(url="s3://bucket/data.npz", sha256="0" * 64, beside=("weights.bin",))
CONFIG = QuantizationConfig(wide="a16w16", calibrate="minmax")
VALUES = {
    "a text": (layer_sensitivity, "precision", "a8w4"),
    "samples": (layer_sensitivity, "samples", Samples(DATA, 12, 24)),
    "a number or a text: a number": (layer_sensitivity, "output", 1),
    "a number or a text: a text": (layer_sensitivity, "output", "logits"),
    "texts": (layer_sensitivity, "shard", ["conv1", "conv2"]),
    "no texts": (layer_sensitivity, "shard", []),
    "an optional number": (layer_sensitivity, "batch_size", 8),
    "no optional number": (layer_sensitivity, "batch_size", None),
    "a reference": (float_outputs, "data", DATA),
    "settings": (layer_times, "config", CONFIG),
    "texts by name": (evaluate_plan, "plan", {"conv2": "a8w8", "conv1": "a8w4"}),
    "optional texts by name": (evaluate_plan, "tensors", {"input": "int8"}),
    "no optional texts by name": (evaluate_plan, "tensors", None),
}


def journey(function, arguments, results):
    """The arguments as the worker gets them."""
    return restored(function, json.loads(json.dumps(plain(arguments))), results)


@pytest.mark.parametrize(("function", "name", "value"), VALUES.values(), ids=VALUES)
def test_a_value_comes_back_as_it_was(function, name, value, results):
    again = journey(function, {name: value}, results)
    assert again == {name: value}
    assert type(again[name]) is type(value)


def test_names_and_layers_of_a_plan_come_back_in_their_order(results):
    given = {"plan": {"z": "a8w8", "a": "a8w4"}, "function": None, "batch_size": 8}
    again = journey(evaluate_plan, given, results)
    assert (list(again), list(again["plan"])) == (["plan", "function", "batch_size"], ["z", "a"])


def test_tables_go_by_the_keys_they_are_stored_under(stored, results):
    weights = (stored("round-4"), stored("round-3"))
    recipe = QuantizationRecipe(stored("prepare-1"), stored("calibrate-5"), CONFIG, weights)
    given = {"recipe": recipe, "baseline": stored("baseline-2")}
    sent = plain(given)
    assert sent["baseline"] == "baseline-2"
    assert {name: sent["recipe"][name] for name in ("layers", "calibration", "weights")} == {
        "layers": "prepare-1",
        "calibration": "calibrate-5",
        "weights": ["round-4", "round-3"],
    }
    assert journey(layer_sensitivity, given, results) == given


def test_a_list_of_tables_comes_back_as_a_list(stored, results):
    given = {"probes": [stored("probe-4"), stored("probe-3")]}
    assert journey(ranked_losses, given, results) == given


def test_tables_that_are_left_out_stay_out(results):
    assert journey(layer_sensitivity, {"baseline": None}, results) == {"baseline": None}
    assert journey(ranked_losses, {"probes": []}, results) == {"probes": []}


SAMPLES = {"data": {"url": "data.npz", "sha256": "0" * 64}, "start": 0, "stop": 8}
REFUSED = {
    "an unknown name": ({"layer": "conv1"}, "layer_sensitivity has no argument layer"),
    "unknown names": ({"zeal": 1, "depth": 2}, "layer_sensitivity has no argument depth, zeal"),
    "another type": ({"samples": SAMPLES | {"start": "first"}}, "start: Input should be a valid integer"),
    "a part that is missing": ({"samples": {"start": 0, "stop": 8}}, "missing 1 required positional argument: 'data'"),
    "an unknown part": ({"samples": SAMPLES | {"end": 8}}, "samples has no argument end"),
    "no record": ({"samples": 8}, "samples has no argument 8"),
    "nothing where something must be": ({"precision": None}, "precision: Input should be a valid string"),
    "settings that are none": ({"recipe": {"config": {"wide": "a99w8"}}}, "config: "),
    "a reference without a digest": ({"samples": SAMPLES | {"data": {"url": "a"}}}, "data: Field required"),
    "a table that is not there": ({"recipe": {"layers": "prepare-9"}}, "prepare-9: there is no such result"),
    "tables that are not there": ({"recipe": {"weights": ["round-9"]}}, "round-9: there is no such result"),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_what_a_stage_does_not_take_is_refused_in_one_line(arguments, said, results):
    with pytest.raises(InputError) as refused:
        restored(layer_sensitivity, arguments, results)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
