"""quantize and dequantize: by their definition, and bit for bit as ONNX Runtime computes them."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant_core.numerics import QParams, broadcast_along, choose_qparams, dequantize, quantize
from quant_core.precision import DataType

INTEGERS = [kind for kind in DataType if not kind.is_float and kind is not DataType.INT32]
integers = pytest.mark.parametrize("dtype", INTEGERS, ids=lambda kind: kind.name)
symmetries = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])

ordinary = st.floats(-1e6, 1e6, width=32)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 8)), elements=ordinary)


def extent(values, axis=None):
    others = None if axis is None else tuple(set(range(values.ndim)) - {axis})
    return values.min(axis=others), values.max(axis=others)


def grid_ends(qparams):
    """The smallest and the largest real value that has a code."""
    low, high = qparams.dtype.code_range
    scale = qparams.scale.astype(np.float64)
    return (low - qparams.zero_point) * scale, (high - qparams.zero_point) * scale


@integers
@symmetries
@pytest.mark.parametrize("axis", [None, 0, 1], ids=["per tensor", "channels first", "channels last"])
@settings(max_examples=30, deadline=None)
@given(values=matrices)
def test_inside_the_range_the_error_is_at_most_half_a_step(dtype, symmetric, axis, values):
    qparams = choose_qparams(*extent(values, axis), dtype, symmetric)
    error = np.abs(dequantize(quantize(values, qparams, axis), qparams, axis).astype(np.float64) - values)
    step = broadcast_along(qparams.scale.astype(np.float64), axis, 2)
    # An asymmetric zero point is rounded too, so the last value of the range may be half a step outside the grid.
    outside = 0 if symmetric and dtype.signed else 0.5
    assert np.all(error <= step * (0.5 + outside) + np.abs(values) * 2e-7)


@integers
@symmetries
@settings(max_examples=30, deadline=None)
@given(bounds=st.tuples(ordinary, ordinary).map(sorted), beyond=st.floats(0, 2.0**100))
def test_outside_the_range_values_saturate_at_both_ends(dtype, symmetric, bounds, beyond):
    qparams = choose_qparams(*bounds, dtype, symmetric)
    low, high = grid_ends(qparams)
    far = np.array([low - beyond - 1, high + beyond + 1], np.float32)
    assert quantize(far, qparams).astype(np.int64).tolist() == list(dtype.code_range)


@integers
@symmetries
@given(bounds=st.tuples(ordinary, ordinary).map(sorted))
def test_zero_is_kept_exactly(dtype, symmetric, bounds):
    qparams = choose_qparams(*bounds, dtype, symmetric)
    assert dequantize(quantize(np.zeros(1, np.float32), qparams), qparams) == 0


@integers
@symmetries
@given(values=matrices)
def test_quantizing_a_quantized_value_changes_nothing(dtype, symmetric, values):
    qparams = choose_qparams(*extent(values), dtype, symmetric)
    codes = quantize(values, qparams)
    np.testing.assert_array_equal(quantize(dequantize(codes, qparams), qparams), codes)


@integers
def test_per_channel_equals_each_channel_alone(dtype):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32) * np.float32([[[1], [9], [0.1], [0]]])
    together = choose_qparams(*extent(values, 1), dtype, symmetric=True)
    codes = quantize(values, together, axis=1)
    for channel in range(4):
        alone = choose_qparams(*extent(values[:, channel]), dtype, symmetric=True)
        np.testing.assert_array_equal(codes[:, channel], quantize(values[:, channel], alone))
        np.testing.assert_array_equal(
            dequantize(codes, together, axis=1)[:, channel], dequantize(codes[:, channel], alone)
        )


@pytest.mark.parametrize("axis", [1, -2], ids=["from the front", "from the back"])
def test_broadcast_along_an_axis(axis):
    assert broadcast_along(np.arange(4), axis, 3).shape == (1, 4, 1)


@pytest.mark.parametrize("values", [np.float32(1), np.arange(4)], ids=["scalar", "no axis"])
def test_broadcast_leaves_a_tensor_wide_value_alone(values):
    assert broadcast_along(np.asarray(values), None, 3) is not None
    assert broadcast_along(np.asarray(values), None, 3).shape == np.shape(values)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "symmetric", "scale", "zero_point"),
    [
        pytest.param(-1, 127, DataType.INT8, True, 1, 0, id="int8 symmetric uses 127 codes a side"),
        pytest.param(-7, 3, DataType.INT4, True, 1, 0, id="int4 symmetric"),
        pytest.param(-128, 127, DataType.INT8, False, 1, 0, id="int8 asymmetric uses all 256"),
        pytest.param(0, 510, DataType.INT8, False, 2, -128, id="positive values begin at the first code"),
        pytest.param(0, 510, DataType.UINT8, True, 2, 0, id="uint8 is never symmetric"),
        pytest.param(-255, 0, DataType.UINT8, False, 1, 255, id="negative values end at the last code"),
        pytest.param(5, 255, DataType.UINT8, False, 1, 0, id="the range is widened to hold zero"),
        pytest.param(0, 0, DataType.INT8, True, 1, 0, id="nothing but zero: scale 1"),
        pytest.param(0, 0, DataType.UINT16, False, 1, 0, id="nothing but zero: scale 1 asymmetric"),
    ],
)
def test_choose_qparams(low, high, dtype, symmetric, scale, zero_point):
    qparams = choose_qparams(low, high, dtype, symmetric)
    assert (qparams.scale, qparams.zero_point) == (scale, zero_point)
    assert qparams.scale.dtype == np.float32


def test_the_smallest_numbers_do_not_give_a_scale_that_divides_to_infinity():
    qparams = choose_qparams(-1e-45, 1e-45, DataType.INT16, symmetric=True)
    assert qparams.scale >= np.finfo(np.float32).tiny
    assert np.isfinite(1 / qparams.scale)


def test_halves_round_to_the_even_code():
    qparams = QParams(DataType.INT8, np.float32(1), np.int64(0))
    values = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert quantize(values, qparams).tolist() == [-2, -2, 0, 0, 2, 2]


def ort_qdq(values, qparams, axis):
    """(codes, values) as ONNX Runtime computes them; codes are None for 4 bits, which numpy cannot be handed."""
    zero = onnx.numpy_helper.from_array(qparams.zero_point.astype(qparams.dtype.numpy_type), "zero")
    scale = onnx.numpy_helper.from_array(qparams.scale, "scale")
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], **attributes),
        onnx.helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"], **attributes),
    ]
    names = {"y": onnx.TensorProto.FLOAT}
    if qparams.dtype.bits > 4:
        names["codes"] = qparams.dtype.onnx_type
    graph = onnx.helper.make_graph(
        nodes,
        "qdq",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
        [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in names.items()],
        [scale, zero],
    )
    opset = onnx.helper.make_opsetid("", max(21, qparams.dtype.first_opset))
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=13)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(list(names), {"x": values}), strict=True))
    return found.get("codes"), found["y"]


def awkward(shape):
    """Random values of many magnitudes, exact halves, zeros of both signs, and values far outside."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 3, size=shape)
    flat = values.reshape(-1)
    flat[:200] = rng.integers(-300, 300, 200) + 0.5
    flat[200:206] = [0.0, -0.0, 1e30, -1e30, 1e-42, -1e-42]
    return values.astype(np.float32)


@integers
@symmetries
@pytest.mark.parametrize("axis", [None, 0, 1], ids=["per tensor", "channels first", "channels last"])
def test_agrees_with_onnx_runtime_bit_for_bit(dtype, symmetric, axis):
    values = awkward((8, 1024))
    # Ranges a good deal smaller than the data, so that many values saturate; steps that are not powers of two.
    bounds = {None: (-61.7, 93.1), 0: (-np.linspace(1, 90, 8), np.linspace(70, 2, 8))}
    bounds[1] = (-np.linspace(0, 90, 1024), np.linspace(70, 0, 1024))
    qparams = choose_qparams(*bounds[axis], dtype, symmetric)
    codes = quantize(values, qparams, axis)
    theirs, restored = ort_qdq(values, qparams, axis)
    np.testing.assert_array_equal(dequantize(codes, qparams, axis).view(np.int32), restored.view(np.int32))
    if theirs is not None:
        np.testing.assert_array_equal(codes, theirs)


def test_int32_codes_dequantize_as_a_bias_does_in_onnx_runtime():
    scale = np.float32([0.37, 1.3e-5])
    codes = np.random.default_rng(2).integers(-(2**31), 2**31, (2, 50)).astype(np.int32)
    qparams = QParams(DataType.INT32, scale, np.zeros(2, np.int64))
    nodes = [onnx.helper.make_node("DequantizeLinear", ["codes", "scale"], ["y"], axis=0)]
    graph = onnx.helper.make_graph(
        nodes,
        "dq",
        [onnx.helper.make_tensor_value_info("codes", onnx.TensorProto.INT32, None)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(scale, "scale")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(dequantize(codes, qparams, 0), session.run(None, {"codes": codes})[0])
