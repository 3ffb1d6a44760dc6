"""Times of layers."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from quant_core.execution.machine import Machine
from quant_core.latency import layer_times
from quant_core.storage.data import refer_data
from quant_core.storage.schemas import TIMES
from tests.models import MODELS, build
from tests.quant_core.workbench import bench


def times(made, *precisions: str):
    machine = Machine(made.machine.cache)
    data = refer_data(made.feeds, machine.cache)
    return layer_times(made.layer_table, made.calibration, data, precisions, made.config, "here", machine)


@pytest.mark.parametrize("model", ["chain", "grouped", "transformer", "shared-weight"])
def test_every_layer_has_a_time_at_every_precision(model, tmp_path, monkeypatch):
    for name in ("_LAYER_SECONDS", "_MIX_SECONDS"):
        monkeypatch.setattr(sys.modules["quant_core.latency.layer_times"], name, 0.0)
    made = bench(MODELS[model](), tmp_path, wide="float32")
    found = times(made, "float32", "au8w8", "a16w8", "float16")
    assert found.schema.equals(TIMES)
    mixed = [json.loads(row["mix"]) for row in found.to_pylist() if row["mix"] is not None]
    assert mixed or len(made.names) == 1
    assert all(list(mix) == made.names for mix in mixed)
    rows = {(row["layer"], row["precision"]) for row in found.to_pylist() if row["mix"] is None}
    precisions = ("float32", "au8w8", "a16w8", "float16")
    assert rows == {(name, precision) for name in [None, *made.names] for precision in precisions}
    assert min(found.column("milliseconds").to_pylist()) >= 0


def test_a_larger_layer_takes_longer(tmp_path):
    weights = {"small": (8, 8, 1, 1), "large": (64, 8, 5, 5)}
    body = "(float[N,8,32,32] x) => (y, z) { [s] y = Conv(x, small) [l] z = Conv(x, large) }"
    made = bench(build(body.replace("(y, z)", "(float y, float z)"), weights), tmp_path, wide="float32")
    small, large = (row["milliseconds"] for row in times(made, "float32").to_pylist()[1:])
    assert large > 5 * small
    whole = times(made, "float32").to_pylist()[0]["milliseconds"]
    assert 0.3 * whole < small + large < 3 * whole


def test_the_time_is_that_of_one_sample(tmp_path):
    body = "(float[B,8,32,32] x) => (float y) { [l] y = Conv(x, w) }"
    alone, batched = (
        times(bench(build(body.replace("B", size), {"w": (32, 8, 5, 5)}), folder, wide="float32"), "float32")
        for size, folder in (("1", tmp_path), ("8", tmp_path / "batched"))
        if folder.mkdir(exist_ok=True) is None
    )
    ratio = np.divide(*(found.column("milliseconds").to_pylist()[1] for found in (batched, alone)))
    assert 0.2 < ratio < 4
