"""Rule 5 of narrowing a layer, as far as biases go: recomputed for each precision, and never beyond int32."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.config import QuantizationConfig
from quant_core.numerics import QParams
from quant_core.precision import DataType, Precision
from quant_core.quantization.biases import bias_at_own_scale, bias_at_products, least_scale
from quant_core.quantization.weights import Weight
from tests.models import build
from tests.quant_core.workbench import bench, same

WIDE, NARROW = Precision.parse("a16w8"), Precision.parse("a8w8")


def linear(weight, bias):
    """y = x @ weight + bias"""
    weights = {"w": np.asarray(weight, np.float32), "b": np.asarray(bias, np.float32)}
    rows, columns = weights["w"].shape
    return build(f"(float[N,{rows}] x) => (float[N,{columns}] y) {{ [m] y = Gemm(x, w, b) }}", weights)


def weight_at(*scale, shift=0.0):
    """A weight with these scales, whose rounding takes a shift of biases to make up for."""
    qparams = QParams(DataType.INT8, np.asarray(scale, np.float32), np.zeros(len(scale), np.int64))
    return Weight(np.ones((len(scale), 1), np.int8), qparams, 0, np.asarray(shift, np.float64))


def test_a_bias_at_products_has_the_scale_of_each_channel_and_the_shift_of_the_weight():
    bias = bias_at_products(np.float32([1.0, -1.0]), weight_at(0.5, 0.25, shift=0.5), np.float32(0.5))
    assert bias.codes.tolist() == [6, -4] and bias.codes.dtype == np.int32
    assert bias.values.tolist() == [1.5, -0.5]


def test_channels_of_each_group_have_the_scales_of_the_first():
    bias = bias_at_products(np.float32([1.0, 1.0, 2.0, 2.0]), weight_at(0.5, 0.25), np.float32(1.0))
    assert bias.codes.tolist() == [2, 4, 4, 8]


def test_a_bias_at_its_own_scale_has_one_for_all_channels():
    weight, config = weight_at(0.5, 0.25, shift=0.27), QuantizationConfig()
    bias = bias_at_own_scale(np.float32([1.0, -1.27]), weight, DataType.INT8, config)
    assert (bias.codes.tolist(), bias.axis) == ([127, -100], None)


@pytest.mark.parametrize(("shape", "channels"), [((), [3.0]), ((2,), [3.0, 2.0])], ids=["per-tensor", "of-two-groups"])
def test_the_least_scale_is_the_one_at_which_the_largest_bias_fits(shape, channels):
    found = least_scale(np.float32([0.5, -2.0, 3.0, 0.0]), np.float32(0.1), shape, QuantizationConfig())
    assert found.shape == shape
    np.testing.assert_allclose(found.ravel(), np.asarray(channels) / (2**31 - 1) / 0.1, rtol=2e-6)
    assert (found.ravel() * np.float64(np.float32(0.1)) * (2**31 - 1) >= channels).all()


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("name", ["chain", "gemm-variants", "transposed", "grouped", "shared-bias", "shared-weight"])
def test_biases_follow_input_and_weight_of_each_precision(workbench, name, per_channel):
    made = workbench(name, per_channel=per_channel, wide="a16w16")
    checked = 0
    for layer in made.layers:
        for index in layer.nodes:
            bias_name = made.quantizer.bias_name(index)
            for precision in (made.config.wide, WIDE, NARROW) if bias_name else ():
                bias = made.quantizer.bias(index, layer.name, precision)
                values = made.graph.constant(bias_name).astype(np.float64)
                tensor = made.graph.nodes[index].input[0]
                input_scale = made.quantizer.activation(tensor, precision.activations).scale
                weight_scale = made.quantizer.weight(layer.name, precision).qparams.scale
                scale = np.resize(input_scale * weight_scale, len(values))  # channels of a group repeat
                np.testing.assert_array_equal(np.broadcast_to(bias.qparams.scale, values.shape), scale)
                assert (np.abs(bias.codes * scale.astype(np.float64) - values) <= scale * 0.500001).all()
                checked += 1
    assert checked


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("size", [1e3, 1e30], ids=["just-over", "far-over"])
def test_weight_scale_grows_where_a_bias_would_overflow(tmp_path, per_channel, size):
    made = bench(linear([[1e-7, 0.5], [1e-8, -0.25]], [size, -0.5]), tmp_path, per_channel=per_channel)
    for precision in (WIDE, NARROW):
        bias = made.quantizer.bias(made.layers[0].nodes[0], "m", precision)
        assert np.abs(bias.codes.astype(np.float64)).max() <= 2**31 - 1
        restored = bias.codes.astype(np.float64) * bias.qparams.scale
        np.testing.assert_allclose(restored[0], size, rtol=1e-5)
        # Only the channel that needs it grows.
        if per_channel:
            assert made.quantizer.weight("m", precision).qparams.scale[1] == np.float32(0.5 / 127)


def test_weight_scale_grows_for_a_float_bias_that_the_runtime_rounds(tmp_path):
    model = linear([[1e-7, 0.5], [1e-8, -0.25]], [1e3, -0.5])
    made = [bench(model, tmp_path, biases=biases) for biases in ("int32", "float32", "float16", "small")]
    scales = [one.quantizer.weight("m", NARROW).qparams.scale for one in made]
    np.testing.assert_array_equal(*scales[:2])
    np.testing.assert_allclose(scales[2][0], scales[0][0] * (1 + 2**-11), rtol=1e-5)
    np.testing.assert_array_equal(*scales[2:])


def test_small_biases_are_bytes_beside_4_bits_and_halves_beside_8(tmp_path):
    bias = np.linspace(-1.27, 1.0, 32)
    made = bench(linear(np.ones((2, 32)), bias), tmp_path, biases="small")
    index = made.layers[0].nodes[0]
    found = made.quantizer.bias(index, "m", Precision.parse("a8w4"))
    assert found.codes.dtype == np.int8 and not found.qparams.zero_point.any()
    values = {one: made.quantizer.bias_values(index, "m", one) for one in (Precision.parse("a8w4"), NARROW)}
    assert found.qparams.scale == 2**-6  # at least 1.27 / 127, and one that other layers share
    np.testing.assert_allclose(values[Precision.parse("a8w4")], bias, atol=2**-7)
    np.testing.assert_array_equal(values[NARROW], bias.astype(np.float16))


def test_small_biases_beside_one_scale_have_4_bits_at_the_power_of_two_of_least_error(tmp_path):
    bias = np.append(np.linspace(-0.875, 0.875, 31), 1.0)
    made = bench(linear(np.ones((2, 32)), bias), tmp_path, biases="small")
    found = made.quantizer.bias(made.layers[0].nodes[0], "m", Precision.parse("a8w4t"))
    assert found.qparams.dtype is DataType.INT4 and found.qparams.scale == 2**-3  # 2**-2 would hold 1, too
    assert found.codes.min() == -7 and found.codes.max() == 7


def test_a_bias_that_just_fits_leaves_the_weight_alone(tmp_path):
    plain = bench(linear([[1.0, 0.5]], [1.0, -0.5]), tmp_path, per_channel=False)
    assert plain.quantizer.weight("m", NARROW).qparams.scale == np.float32(1 / 127)


def test_a_bias_that_is_no_vector_of_channels_stays_float(workbench):
    made = workbench("gemm-variants")
    index = next(index for index, node in enumerate(made.graph.nodes) if node.name == "scalar")
    assert made.quantizer.bias_name(index) is None


@pytest.mark.parametrize(
    ("biases", "kinds"),
    [
        ("int32", (DataType.INT32, DataType.INT32)),
        ("narrow-as-weights", (DataType.INT32, DataType.INT8)),
        ("as-weights", (DataType.INT16, DataType.INT8)),
    ],
)
def test_a_bias_has_the_type_asked_for_and_holds_its_values(workbench, biases, kinds):
    made = workbench("chain", biases=biases, wide="a16w16")
    index, values = made.layers[0].nodes[0], np.asarray(made.graph.constant("b1"), np.float64)
    for precision, kind in zip((made.config.wide, NARROW), kinds, strict=True):
        bias = made.quantizer.bias(index, made.names[0], precision)
        assert bias.qparams.dtype is kind
        assert bias.codes.dtype == kind.numpy_type
        steps = np.abs(bias.codes * bias.qparams.scale.astype(np.float64) - values) / bias.qparams.scale
        assert (steps <= 0.5001).all()
    plan = made.plan(made.names[0])
    assert same(made.simulate(plan), made.ship(plan))
