"""A layer is a product of matrices: rows times columns give what ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.model.sessions import open_nodes
from quant_core.quantization.rounding.unfolding import unfolding_of
from tests.models import build
from tests.quant_core.workbench import bench

LAYERS = {
    "conv": ("Conv<pads=[1,0,2,1], strides=[2,1]>", (2, 4, 5, 6), (6, 4, 3, 2)),
    "dilated": ("Conv<dilations=[1,2]>", (2, 4, 5, 6), (6, 4, 3, 2)),
    "same-upper": ('Conv<auto_pad="SAME_UPPER", strides=[2,2]>', (2, 4, 5, 6), (6, 4, 2, 3)),
    "same-lower": ('Conv<auto_pad="SAME_LOWER">', (2, 4, 5, 6), (6, 4, 2, 4)),
    "depthwise": ("Conv<group=4, pads=[1,1,1,1]>", (2, 4, 5, 6), (8, 1, 3, 3)),
    "grouped": ("Conv<group=2>", (2, 4, 5, 6), (6, 2, 2, 2)),
    "conv1d": ("Conv<pads=[2,0]>", (2, 4, 7), (3, 4, 3)),
    "conv3d": ("Conv", (2, 2, 4, 5, 3), (3, 2, 2, 2, 2)),
    "gemm": ("Gemm", (3, 4), (4, 5)),
    "gemm-transposed": ("Gemm<transB=1>", (3, 4), (5, 4)),
    "matmul": ("MatMul", (3, 2, 4), (4, 5)),
}


def made(tmp_path, op: str, shape: tuple[int, ...], weight: tuple[int, ...]):
    dims = ",".join(map(str, shape[1:]))
    model = build(f"(float[N,{dims}] x) => (y) {{ [layer] y = {op}(x, w) }}".replace("(y)", "(float y)"), {"w": weight})
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    return bench(model, tmp_path, feeds)


@pytest.mark.parametrize(("op", "shape", "weight"), LAYERS.values(), ids=LAYERS)
def test_rows_times_columns_are_what_the_layer_puts_out(tmp_path, op, shape, weight):
    bench_ = made(tmp_path, op, shape, weight)
    graph, layer = bench_.graph, bench_.layers[0]
    unfolding = unfolding_of(graph, layer)
    node, values = graph.nodes[layer.nodes[0]], bench_.feeds["x"]
    rows, columns = unfolding.rows(graph.constant(layer.weight)), unfolding.columns(node, values, 10**9)
    product = np.matmul(rows, columns.transpose(0, 2, 1)).reshape(-1, columns.shape[1])  # [outputs, places]
    found = open_nodes(graph, [node], ["y"], {})({"x": values})["y"]
    expected = np.moveaxis(found, 1 if op.startswith("Conv") else -1, 0).reshape(product.shape)
    np.testing.assert_allclose(product, expected, atol=1e-5)


@pytest.mark.parametrize(("op", "shape", "weight"), LAYERS.values(), ids=LAYERS)
def test_folding_undoes_unfolding(tmp_path, op, shape, weight):
    bench_ = made(tmp_path, op, shape, weight)
    values = bench_.graph.constant(bench_.layers[0].weight)
    unfolding = unfolding_of(bench_.graph, bench_.layers[0])
    np.testing.assert_array_equal(unfolding.folded(unfolding.rows(values)), values)


def test_a_sample_of_the_columns_is_spread_evenly(tmp_path):
    bench_ = made(tmp_path, "MatMul", (3, 20, 4), (4, 5))
    unfolding = unfolding_of(bench_.graph, bench_.layers[0])
    columns = unfolding.columns(bench_.graph.nodes[0], bench_.feeds["x"], 6)
    np.testing.assert_array_equal(columns[0], bench_.feeds["x"].reshape(-1, 4)[::10])


@pytest.mark.parametrize(
    ("model", "layer"), [("matmul-variants", "left"), ("transposed", "up"), ("two-activations", "scores")]
)
def test_what_is_no_product_with_a_weight_on_the_right_does_not_unfold(workbench, model, layer):
    found = workbench(model)
    assert unfolding_of(found.graph, next(one for one in found.layers if one.name == layer)) is None
