"""Scales of blocks in float16."""

import numpy as np
import onnx
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


@pytest.mark.parametrize(("runtime", "kind"), [("reference", "FLOAT16"), ("openvino", "FLOAT")])
def test_a_file_computes_what_is_simulated_and_has_them_in_half_the_bytes(tmp_path, runtime, kind):
    model = build("(float[N,32] x) => (float[N,8] y) { [m] y = MatMul(x, w) }", {"w": (32, 8)})
    made = bench(model, tmp_path, wide="float32w4b16", runtime=runtime)
    assert same(made.ship(made.wide), made.simulate(made.wide))
    scale = made.quantizer.weight("m", Precision.parse("float32w4b16")).qparams.scale
    written = [one for one in made.exported(made.wide).graph.initializer if tuple(one.dims) == scale.shape == (2, 8)]
    kinds = {onnx.TensorProto.DataType.Name(one.data_type) for one in written}
    assert kinds == {kind, "INT4"} or kinds == {kind}
