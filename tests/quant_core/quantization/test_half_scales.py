"""Scales of blocks in float16."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.config.quantization import QuantizationConfig
from quant_core.numerics import QParams
from quant_core.precision import DataType, Precision
from quant_core.quantization.half_scales import held_in_half, with_half_scales
from tests.models import build
from tests.quant_core.workbench import bench, same


def qparams(*scales, block=16):
    return QParams(DataType.INT4, np.float32([scales]), np.zeros((1, len(scales)), np.int64), block)


@pytest.mark.parametrize(
    ("found", "runtime", "held"),
    [
        (qparams(0.0101, 3.3), "onnxruntime", True),
        (qparams(0.0101, 3.3), "openvino", False),
        (qparams(0.0101, 3.3, block=None), "onnxruntime", False),
        (qparams(0.0101, 1e-6), "onnxruntime", False),  # float16 has but four bits there
        (qparams(0.0101, 1e6), "onnxruntime", False),
    ],
    ids=["blocks", "another-runtime", "channels", "small", "large"],
)
def test_scales_of_blocks_are_held_in_float16_where_that_is_near(found, runtime, held):
    config = QuantizationConfig(runtime=runtime)
    rounded = with_half_scales(found, config)
    np.testing.assert_allclose(rounded.scale, found.scale, rtol=2**-11 if held else 0)
    half = held_in_half(rounded, config)
    assert (half is not None and np.array_equal(half, rounded.scale)) is held


def test_scales_of_many_channels_are_held_in_float16_if_asked_for():
    config = QuantizationConfig(channel_scales="float16")
    smallest = [1e-6, 1e-9]  # of channels with next to no weights: rounded up
    found = QParams(DataType.INT8, np.float32([0.0101, *smallest] * 8), np.zeros(24, np.int64))
    rounded = with_half_scales(found, config)
    assert ((rounded.scale >= found.scale) | (found.scale > 1e-5)).all()
    np.testing.assert_allclose(rounded.scale, found.scale, rtol=2**-11, atol=6e-8)
    np.testing.assert_array_equal(held_in_half(rounded, config), rounded.scale)
    few = QParams(DataType.INT8, np.float32([0.0101] * 4), np.zeros(4, np.int64))
    assert held_in_half(with_half_scales(few, config), config) is None


def test_an_integer_kernel_takes_scales_of_channels_in_float16(tmp_path):
    model = build(
        "(float[N,8,6,6] x) => (float[N,32,6,6] y) { [c] y = Conv(x, w, b) }", {"w": (32, 8, 1, 1), "b": (32,)}
    )
    made = bench(model, tmp_path, wide="a8w8", channel_scales="float16")
    assert same(made.ship(made.wide), made.simulate(made.wide))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(made.exported(made.wide).SerializeToString(), options)
    assert "QLinearConv" in [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]


@pytest.mark.parametrize(("runtime", "kind"), [("reference", "FLOAT16"), ("openvino", "FLOAT")])
def test_a_file_computes_what_is_simulated_and_has_them_in_half_the_bytes(tmp_path, runtime, kind):
    model = build("(float[N,32] x) => (float[N,8] y) { [m] y = MatMul(x, w) }", {"w": (32, 8)})
    made = bench(model, tmp_path, wide="float32w4b16", runtime=runtime)
    assert same(made.ship(made.wide), made.simulate(made.wide))
    scale = made.quantizer.weight("m", Precision.parse("float32w4b16")).qparams.scale
    written = [one for one in made.exported(made.wide).graph.initializer if tuple(one.dims) == scale.shape == (2, 8)]
    kinds = {onnx.TensorProto.DataType.Name(one.data_type) for one in written}
    assert kinds == {kind, "INT4"} or kinds == {kind}
