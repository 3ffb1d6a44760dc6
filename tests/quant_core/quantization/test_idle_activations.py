"""Activations that a pair behind them makes idle."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.quantization.idle_activations import without_idle_activations

X = np.linspace(-9, 9, 1001, dtype=np.float32)


def quantized(activation: str, kind: str, scale: float, zero: int, output: str = "z") -> onnx.ModelProto:
    """An activation with a pair behind it."""
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[N] x) => (float[N] {output})
        <float zero = {{0}}, float six = {{6}}, float low = {{-6}}, float s = {{{scale!r}}}, {kind} p = {{{zero}}}> {{
            y = {activation}
            c = QuantizeLinear(y, s, p)
            z = DequantizeLinear(c, s, p)
        }}""")


@pytest.mark.parametrize(
    ("activation", "kind", "scale", "zero", "idle"),
    [
        pytest.param("Relu(x)", "int8", 0.02, -128, True, id="lowest code is 0"),
        pytest.param("Relu(x)", "uint8", 0.02, 0, True, id="unsigned"),
        pytest.param("Relu(x)", "int8", 0.02, 0, False, id="negative values have codes"),
        pytest.param("Clip(x, zero, six)", "int8", 6 / 255, -128, True, id="the whole range"),
        pytest.param("Clip(x, zero, six)", "int8", 5 / 255, -128, True, id="a part of the range"),
        pytest.param("Clip(x, zero, six)", "int8", 7 / 255, -128, False, id="more than the range"),
        pytest.param("Clip(x, low)", "int8", 6 / 128, 0, True, id="no upper bound"),
        pytest.param("Clip(x, low, zero)", "int8", 6 / 128, 0, False, id="positive values have codes"),
        pytest.param("Clip(x, six, zero)", "int8", 0.001, -128, False, id="bounds in the wrong order"),
        pytest.param("Relu(x)", "int16", 0.0002, -32768, False, id="16 bits, which runtimes may leave out"),
    ],
)
def test_what_the_pair_cuts_off_is_cut_off_once(activation, kind, scale, zero, idle):
    model = quantized(activation, kind, scale, zero)
    before = ort.InferenceSession(model.SerializeToString()).run(None, {"x": X})[0]
    without_idle_activations(model.graph)
    assert (len(model.graph.node) == 2) is idle
    after = ort.InferenceSession(model.SerializeToString()).run(None, {"x": X})[0]
    np.testing.assert_array_equal(before, after)


def test_an_activation_that_is_read_as_it_is_stays():
    model = quantized("Relu(x)", "uint8", 0.02, 0, output="y")
    without_idle_activations(model.graph)
    assert model.graph.node[0].op_type == "Relu"


def test_bounds_of_old_opsets_are_left_alone():
    model = quantized("Clip(x)", "uint8", 0.02, 0)
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("min", 1.0))
    without_idle_activations(model.graph)
    assert model.graph.node[0].op_type == "Clip"
