"""Histograms of tensors that hold the values of others."""

import numpy as np
import pytest

from quant_core.calibration import float_pass
from quant_core.calibration.data_movement import merged_histograms, moved_tensors
from quant_core.calibration.histogram import Histogram
from quant_core.model.graph import FloatGraph
from quant_core.storage.tables import to_ipc
from tests.models import MODELS, build, samples
from tests.quant_core.calibration.test_collect import calibrated


@pytest.mark.parametrize("name", MODELS)
def test_a_merged_histogram_is_the_one_that_would_have_been_counted(name, tmp_path, monkeypatch):
    model = MODELS[name]()
    merged = calibrated(model, samples(model, 5), tmp_path, batch_size=None)
    monkeypatch.setattr(float_pass, "moved_tensors", lambda *_, **__: {})
    assert to_ipc(calibrated(model, samples(model, 5), tmp_path)) == to_ipc(merged)


def rearranged():
    return build(
        "(float[N,2,4,4] x) => (float[N,4,4,4] y, float[N,32] z, float[N,2,4,4] m) {"
        " r = Relu(x)  y = Concat<axis=1>(r, x)  z = Flatten<axis=1>(r)  m = Concat<axis=1>(k, r) }",
        {"k": (1, 1, 4, 4)},
    )


def test_only_values_of_tensors_that_are_looked_at_make_another_known(tmp_path):
    graph = FloatGraph(rearranged(), tmp_path)
    assert moved_tensors(graph, ["x", "r", "y", "z", "m"]) == {"y": ("r", "x"), "z": ("r",)}
    assert moved_tensors(graph, ["r", "y", "z"]) == {"z": ("r",)}
    assert moved_tensors(graph, ["x", "r", "y", "z"], apart={"x"}) == {"z": ("r",)}


def test_what_holds_an_infinite_tensor_has_no_histogram():
    one = Histogram.of(np.array([1.0, -2.0], np.float32))
    found = merged_histograms({"y": ("a", "b"), "z": ("y", "a"), "w": ("a", "a"), "e": ("n",)}, {"a": one, "b": None})
    assert found["y"] is None and found["z"] is None and "e" not in found
    assert found["w"].count == 4
