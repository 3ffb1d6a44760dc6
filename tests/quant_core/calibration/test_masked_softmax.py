"""Attention masks of large numbers: their places stay empty, and the other scores keep their precision."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from quant_core.calibration.histogram import histograms_from_table
from quant_core.calibration.masked_softmax import is_masked, softmax_scores, without_masked
from quant_core.model.graph import FloatGraph
from tests.models import build, finite_mask
from tests.quant_core.workbench import bench

VALUES = [-1e4, -1e9, -1e29]


def float_outputs(made):
    session = ort.InferenceSession(made.original.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, made.feeds)[0]


@pytest.mark.parametrize("masked", VALUES)
@pytest.mark.parametrize(("precision", "largest"), [("a16w8", 0.02), ("a8w8", 0.1)])
def test_a_mask_costs_the_other_scores_no_precision(tmp_path, masked, precision, largest):
    made = bench(finite_mask(masked), tmp_path, wide=precision)
    exact = float_outputs(made)
    assert np.abs(made.ship(made.wide)["y"] - exact).max() < largest * np.abs(exact).max()


def test_what_is_masked_has_no_share(tmp_path):
    model = build(
        "(float[N,3,3] x) => (float[N,3,3] y) { [s] s = MatMul(x, x)  m = Add(s, mask)  y = Softmax<axis=-1>(m) }",
        {"mask": np.triu(np.full((3, 3), -1e9, np.float32), 1)},
    )
    found = bench(model, tmp_path)
    shares = found.ship(found.wide)["y"]
    assert np.all(shares[:, *np.triu_indices(3, 1)] == 0)
    np.testing.assert_allclose(shares, float_outputs(found), atol=2e-3)


def test_the_range_covers_what_is_not_masked(tmp_path):
    made = bench(finite_mask(), tmp_path)
    seen = histograms_from_table(made.calibration)["m"]
    assert -100 < seen.low < seen.high < 100


def scores(body):
    return softmax_scores(FloatGraph(build(body), None))


def test_only_what_softmax_alone_reads_is_taken_for_scores():
    shape = "(float[N,3,4] x) => (float[N,3,4] y, float[N,3,4] z)"
    assert scores(f"{shape} {{ a = Sin(x) y = Softmax<axis=1>(a) z = Softmax<axis=1>(a) }}") == {"a": 1}
    assert scores(f"{shape} {{ a = Sin(x) y = Softmax(a) z = Relu(a) }}") == {}
    assert scores(f"{shape} {{ a = Sin(x) y = Softmax(a) z = Softmax<axis=1>(a) }}") == {}
    assert scores("(float[N,4] x) => (float[N,4] a, float[N,4] y) { a = Sin(x) y = Softmax(a) }") == {}


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scores_are_raised_to_where_softmax_gives_next_to_nothing(axis):
    values = np.random.default_rng(0).normal(0, 3, (5, 6, 7)).astype(np.float32)
    values[1, 2, 3] = -1e9
    kept = without_masked(values, axis)
    assert kept.min() >= -40
    np.testing.assert_array_equal(np.sort(kept.ravel())[1:], np.sort(values.ravel())[1:])


def test_a_row_that_is_masked_as_a_whole_does_not_count():
    values = np.array([[1, 2, -1e9], [-1e9, -1e9, -1e9]], np.float32)
    np.testing.assert_array_equal(without_masked(values, 1), [[1, 2, -18]])
    assert without_masked(values[1:], 1).size == 0


@pytest.mark.parametrize(("score", "masked"), [(-1e4, True), (-9e3, False), (-1e9, True), (0, False)])
def test_a_mask_is_a_large_number(score, masked):
    assert is_masked(score) is masked


def test_a_batch_that_is_masked_throughout_adds_nothing(tmp_path):
    model = build(
        "(float[N,3] x) => (float[N,3] y) { [s] s = MatMul(x, w)  y = Softmax<axis=-1>(s) }",
        {"w": np.eye(3, dtype=np.float32)},
    )
    feeds = {"x": np.array([[1, 2, 3], [-1e9, -1e9, -1e9]], np.float32)}
    seen = histograms_from_table(bench(model, tmp_path, feeds).calibration)["s"]
    assert (seen.low, seen.high, seen.count) == (1, 3, 3)
