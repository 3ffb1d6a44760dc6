"""Saturating sums of int8 products, emulated."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_core.model.graph import FloatGraph
from quant_core.runtimes.saturation import layer_saturation, saturated_products
from tests.quant_core.workbench import saved


@given(st.integers(1, 9), st.integers(0, 1000))
def test_products_saturate_pair_by_pair(inputs, seed):
    random = np.random.default_rng(seed)
    rows, weights = random.integers(0, 256, (3, inputs)), random.integers(-128, 128, (inputs, 2))
    found, exact = saturated_products(rows, weights)
    for row, output in np.ndindex(found.shape):
        terms = [int(a) * int(w) for a, w in zip(rows[row], weights[:, output], strict=True)]
        pairs = [sum(terms[at : at + 2]) for at in range(0, inputs, 2)]
        assert found[row, output] == sum(min(max(pair, -32768), 32767) for pair in pairs)
        assert exact[row, output] == sum(terms)


def quantized_conv(weight: np.ndarray, activations: str = "uint8", **attributes: object) -> onnx.ModelProto:
    """A Conv between pairs of scale 1 / 255."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    zero = np.uint8(0) if activations == "uint8" else np.int8(-128)
    constants = {"s": np.float32(1 / 255), "z": zero, "w": weight, "ws": np.float32(0.01), "wz": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="d"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="wd"),
        helper.make_node("Conv", ["xd", "wd"], ["y"], name="layer", **attributes),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["N", 4, 8, 8])],
        [value("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def saturation(model: onnx.ModelProto, folder) -> dict[str, float]:
    ones = {"x": np.ones((2, 4, 8, 8), np.float32)}
    return layer_saturation(FloatGraph.load(saved(model, folder)), ones)


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize(
    "attributes", [{}, {"pads": [1, 1, 1, 1]}, {"strides": [2, 2]}, {"auto_pad": "SAME_UPPER"}, {"dilations": [2, 2]}]
)
def test_a_convolution_is_off_by_what_its_pairs_lose(tmp_path, activations, attributes):
    found = saturation(quantized_conv(np.full((3, 4, 3, 3), 100, np.int8), activations, **attributes), tmp_path)
    assert found["layer"] == pytest.approx(1 - 32767 / (2 * 255 * 100), rel=1e-6)


def test_weights_that_are_neighbours_in_one_channel_alone_do_not_saturate(tmp_path):
    weight = np.zeros((3, 4, 3, 3), np.int8)
    weight[:, 1] = 127  # beside a channel of zeros
    assert saturation(quantized_conv(weight), tmp_path) == {"layer": 0.0}


def test_groups_are_products_of_their_own(tmp_path):
    weight = np.zeros((4, 2, 3, 3), np.int8)
    weight[:2] = 100
    weight[2:] = 10
    assert 0.3 < saturation(quantized_conv(weight, group=2), tmp_path)["layer"] < 0.4


def test_a_depthwise_convolution_is_left_out(tmp_path):
    assert saturation(quantized_conv(np.full((4, 1, 3, 3), 127, np.int8), group=4), tmp_path) == {}
