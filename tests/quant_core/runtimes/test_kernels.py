from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quant_core.runtimes.kernels import NOT_QUANTIZED, layer_kernels


def conv_of(channels: int) -> onnx.ModelProto:
    """Make a Conv with a float weight in front of an 8-bit pair, and one with weights in codes behind it."""
    random = np.random.default_rng(0)
    constants = {
        "float": random.standard_normal((channels, 1, 3, 3)).astype(np.float32),
        "codes": random.integers(-60, 60, (channels, channels, 1, 1)).astype(np.int8),
        "scale": np.float32(0.1),
        "zero": np.uint8(128),
        "none": np.int8(0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "float"], ["first_out"], name="first"),
        helper.make_node("QuantizeLinear", ["first_out", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "none"], ["w"], name="w"),
        helper.make_node("Conv", ["d", "w"], ["second_out"], name="second"),
        helper.make_node("QuantizeLinear", ["second_out", "scale", "zero"], ["q2"], name="q2"),
        helper.make_node("DequantizeLinear", ["q2", "scale", "zero"], ["y"], name="d2"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ("N", 1, 8, 8))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("N", channels, 6, 6))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_float_conv_is_found_though_its_layout_and_name_have_changed(tmp_path):
    onnx.save(conv_of(16), tmp_path / "model.onnx")
    first, second = layer_kernels(tmp_path / "model.onnx")
    assert (first.layer, first.runs_as, first.is_integer, first.why) == ("first", "Conv", False, NOT_QUANTIZED)
    assert (second.layer, second.runs_as, second.is_integer) == ("second", "QLinearConv", True)


@pytest.mark.parametrize(
    ("body", "runs_as"),
    [
        ("a = MatMul(x, x) y = Mul(a, half)", "FusedMatMul"),
        ("t = Transpose<perm=[1, 0]>(x) a = MatMul(x, t) y = Div(a, half)", "FusedMatMul"),
        ("a = Gemm(x, x) y = Relu(a)", "FusedGemm"),
    ],
    ids=["scale", "transposed and scale", "activation"],
)
def test_a_float_product_is_found_though_it_took_in_what_is_around_it(tmp_path, body, runs_as):
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[4,4] x) => (float[4,4] y) <float half = {{0.5}}> {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = f"the {node.op_type}"
    onnx.save(model, tmp_path / "model.onnx")
    (found,) = layer_kernels(tmp_path / "model.onnx")
    assert (found.runs_as, found.is_integer, found.why) == (runs_as, False, NOT_QUANTIZED)


@pytest.mark.parametrize("behind", [["Relu"], ["Add"], ["Add", "Relu"], ["LeakyRelu"]], ids="-".join)
def test_a_float_conv_is_found_though_it_took_in_what_is_behind_it(tmp_path, behind):
    weight = numpy_helper.from_array(np.ones((16, 16, 3, 3), np.float32), "weight")
    nodes = [helper.make_node("Conv", ["x", "weight"], ["t0"], name="conv", pads=[1, 1, 1, 1])]
    for place, op_type in enumerate(behind):
        more = ["x"] if op_type == "Add" else []
        nodes.append(helper.make_node(op_type, [f"t{place}", *more], [f"t{place + 1}"], name=f"behind{place}"))
    nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 16, 8, 8)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "one", ends[:1], ends[1:], [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx"
    )
    (found,) = layer_kernels(tmp_path / "model.onnx")
    assert (found.layer, found.runs_as.removeprefix("Fused")) == ("conv", "Conv")
