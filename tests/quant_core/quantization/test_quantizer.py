"""Rules 5 and 6 of narrowing a layer: the numbers of weights and tensors."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.calibration.histogram import Histogram, histogram_table, histograms_from_table
from quant_core.numerics import dequantize
from quant_core.precision import DataType, Precision
from quant_core.quantization.quantizer import Quantizer
from quant_core.quantization.weights import weight_axis
from tests.models import MODELS, build
from tests.quant_core.workbench import bench

WIDE, NARROW = Precision.parse("a16w8"), Precision.parse("a8w8")


def linear(weight):
    """y = x @ weight"""
    weights = {"w": np.asarray(weight, np.float32)}
    rows, columns = weights["w"].shape
    return build(f"(float[N,{rows}] x) => (float[N,{columns}] y) {{ [m] y = MatMul(x, w) }}", weights)


def seen(made, **values):
    """The workbench's quantizer, had its calibration seen these values of a tensor."""
    found = histograms_from_table(made.calibration)
    found |= {name: Histogram.of(np.asarray(array, np.float32)) for name, array in values.items()}
    return Quantizer(made.graph, made.layers, histogram_table(found), made.config)


def test_weights_are_rounded_to_the_nearest_even_code(tmp_path):
    # The largest weight is 127, so codes are the weights themselves, rounded.
    made = bench(linear([[127.0, 0.5], [1.5, -2.5], [0.9, -126.7]]), tmp_path, per_channel=False)
    weight = made.quantizer.weight("m", NARROW)
    assert weight.qparams.scale == 1
    assert weight.codes.tolist() == [[127, 0], [2, -2], [1, -127]]


def test_a_negative_extreme_is_coded_as_minus_127(tmp_path):
    """-128 has no counterpart: with it a symmetric weight of -1 and +1 would not be symmetric."""
    made = bench(linear([[-1.0, 1.0]]), tmp_path, per_channel=False)
    for precision, extreme in [(NARROW, 127), (Precision.parse("a16w16"), 32767)]:
        weight = made.quantizer.weight("m", precision)
        assert weight.codes.tolist() == [[-extreme, extreme]]
        assert weight.qparams.scale == np.float32(1 / extreme)


def test_weights_of_every_precision_come_from_the_float_values(workbench):
    made = workbench("chain", per_channel=False)
    for layer in made.layers:
        values = made.graph.constant(layer.weight).astype(np.float64)
        for precision, largest in [(NARROW, 127), (Precision.parse("a16w16"), 32767)]:
            weight = made.quantizer.weight(layer.name, precision)
            # A bias may have made the scale grow, never shrink.
            step = max(np.abs(values).max() / largest, float(weight.qparams.scale))
            assert np.abs(dequantize(weight.codes, weight.qparams, weight.axis) - values).max() <= step * 0.505


AXES = {
    "chain": {"c1": 0, "c2": 0, "c3": 0, "fc": 0},  # Conv; Gemm with transB
    "gemm-variants": {"plain": 1, "turned": 0, "scaled": 1, "scalar": 1},
    "matmul-variants": {"left": 0, "batched": 2, "stacked": 2},
    "transposed": {"up": 1, "groups": 1},
    "grouped": {"depthwise": 0, "pointwise": 0, "groups": 0},
    "conv3d": {"one": 0, "two": 0},
}


@pytest.mark.parametrize("name", AXES)
def test_channels_are_those_of_the_output(workbench, name):
    made = workbench(name, per_channel=True)
    axes = {layer.name: weight_axis(made.graph, layer) for layer in made.layers}
    assert axes == AXES[name]


@pytest.mark.parametrize("name", ["chain", "gemm-variants", "matmul-variants", "transposed", "conv1d"])
def test_each_channel_fills_the_type(workbench, name):
    made = workbench(name, per_channel=True)
    for layer in made.layers:
        weight = made.quantizer.weight(layer.name, NARROW)
        others = tuple(axis for axis in range(weight.codes.ndim) if axis != weight.axis)
        assert (np.abs(weight.codes.astype(int)).max(axis=others) == 127).all(), layer.name


def test_nodes_that_share_a_weight_on_different_axes_have_one_scale(tmp_path):
    made = bench(
        build(
            "(float[N,4] x) => (float[N,4] y) { [a] h = Gemm(x, w, b) r = Relu(h) [b_] y = Gemm<transB=1>(r, w, b) }",
            {"w": (4, 4), "b": (4,)},
        ),
        tmp_path,
        per_channel=True,
    )
    assert weight_axis(made.graph, made.layers[0]) is None
    assert made.quantizer.weight("a", NARROW).qparams.scale.shape == ()


def test_each_type_has_its_own_range(tmp_path):
    """Rule 6: int8 cuts off the tail that int16 can afford to keep."""
    made = bench(linear([[1.0, 0.5]]), tmp_path)
    values = np.random.default_rng(0).standard_normal(1_000_000)
    values[0] = 1000
    quantizer = seen(made, x=values)
    assert quantizer.activation("x", DataType.INT16).scale == np.float32(1000 / 32767)
    assert quantizer.activation("x", DataType.INT8).scale < 10 / 127


def test_a_symmetric_scale_is_the_largest_magnitude_over_127(tmp_path):
    made = bench(linear([[1.0, 0.5]]), tmp_path, calibrate="minmax")
    quantizer = seen(made, x=[-3.0, 2.0])
    for dtype, largest in [(DataType.INT8, 127), (DataType.INT16, 32767)]:
        found = quantizer.activation("x", dtype)
        assert (found.scale, found.zero_point) == (np.float32(3 / largest), 0)


def test_an_asymmetric_scale_uses_every_code(tmp_path):
    made = bench(linear([[1.0, 0.5]]), tmp_path, calibrate="minmax", symmetric=False)
    found = seen(made, x=[0.0, 2.55]).activation("x", DataType.INT8)
    assert (found.scale, found.zero_point) == (np.float32(2.55 / 255), -128)


def test_movers_share_the_values_of_what_they_move(workbench):
    made = workbench("concat", calibrate="minmax")
    keys = {made.quantizer.range_key(name) for name in ("a1", "b", "p", "j", "x")}
    assert len(keys) == 1  # joined by Concat; x through MaxPool
    quantizer = seen(made, x=[-1.0, 1.0], a1=[0.0, 5.0], b=[-9.0, 2.0])
    assert {quantizer.activation(name, DataType.INT8).scale.item() for name in ("a1", "b", "p", "j", "x")} == {
        np.float32(9 / 127).item()
    }


def test_constant_operands_are_quantized_in_the_type_asked_for(workbench):
    made = workbench("chain")
    name = made.layers[0].weight
    codes, qparams = made.quantizer.constant(name, made.config.wide.activations)
    assert codes.dtype == np.int16
    assert np.abs(dequantize(codes, qparams) - made.graph.constant(name)).max() <= qparams.scale * 0.505


@pytest.mark.parametrize("name", MODELS)
def test_numbers_do_not_depend_on_what_was_asked_before(workbench, name):
    made = workbench(name)
    fresh = Quantizer(made.graph, made.layers, made.calibration, made.config)
    for layer in [layer for layer in reversed(made.layers) if layer.weight]:
        for precision in (NARROW, WIDE):
            first, second = fresh.weight(layer.name, precision), made.quantizer.weight(layer.name, precision)
            assert first.codes.tobytes() == second.codes.tobytes()
            assert first.qparams.scale.tobytes() == second.qparams.scale.tobytes()


@pytest.mark.parametrize(
    ("runtime", "inputs", "scales"),
    [("onnxruntime", 24, (2, 3)), ("openvino", 24, (3,)), ("openvino", 32, (2, 3))],
)
def test_where_only_whole_blocks_are_taken_other_weights_have_a_scale_a_channel(tmp_path, runtime, inputs, scales):
    model = linear(np.random.default_rng(0).standard_normal((inputs, 3)))
    made = bench(model, tmp_path, wide="float32", runtime=runtime, block_size=16, per_channel=True)
    assert made.quantizer.weight("m", Precision.parse("float32w4")).qparams.scale.shape == scales
