"""Each rule finds a planted violation, and none in what its profile wrote."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant_core.config import LayerWiseConfig, RuntimeName
from quant_core.errors import InputError
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.precision import Precision
from quant_core.runtimes.registry import PROFILES, profile_of
from quant_core.runtimes.written_model import WrittenModel
from tests.models import build, samples
from tests.quant_core.workbench import saved


def layer(
    activations=TensorProto.INT8,
    weight=None,
    weight_scale=0.01,
    input_scale=0.1,
    weight_zero=None,
    weight_attributes=None,
    op="MatMul",
    opset=21,
    bias_scale=None,
    shared_zero=False,
    **attributes,
) -> WrittenModel:
    """One product between pairs, as a rule sees it."""
    weight = np.full((32, 4), 3, np.int8) if weight is None else weight
    zero_type = helper.np_dtype_to_tensor_dtype(weight.dtype)
    scale = np.asarray(weight_scale, np.float32)
    zeros = np.zeros(scale.shape, weight.dtype) if weight_zero is None else np.asarray(weight_zero, weight.dtype)
    constants = {
        "w": numpy_helper.from_array(weight, "w"),
        "w_scale": numpy_helper.from_array(scale, "w_scale"),
        "w_zero": helper.make_tensor("w_zero", zero_type, zeros.shape, zeros.ravel()),
        "x_scale": numpy_helper.from_array(np.float32(input_scale), "x_scale"),
        "x_zero": helper.make_tensor("x_zero", activations, [], [0]),
    }
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], name="xq"),
        make("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], name="xd"),
        make("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], name="wd", **(weight_attributes or {})),
    ]
    inputs = ["xd", "wd"]
    if bias_scale is not None:
        constants["b"] = numpy_helper.from_array(np.zeros(4, np.int32), "b")
        constants["b_scale"] = numpy_helper.from_array(np.asarray(bias_scale, np.float32), "b_scale")
        nodes.append(make("DequantizeLinear", ["b", "b_scale"], ["bd"], name="bd"))
        inputs.append("bd")
    nodes.append(make(op, inputs, ["y"], name="layer", **attributes))
    if shared_zero:
        constants["v"] = numpy_helper.from_array(weight + 1, "v")
        nodes.append(make("DequantizeLinear", ["v", "w_scale", "w_zero"], ["vd"], name="vd"))
        nodes.append(make(op, ["xd", "vd"], ["z"], name="second", **attributes))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, None)],
        [value("y", TensorProto.FLOAT, None)],
        list(constants.values()),
    )
    return WrittenModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def alone() -> WrittenModel:
    """A product of floats with a weight held in codes."""
    model = layer().model
    del model.graph.node[:2]
    model.graph.node[-1].input[0] = "x"
    return WrittenModel(model)


def with_lengths(samples: int | str) -> WrittenModel:
    """An RNN that is given the lengths of sequences."""
    value = helper.make_tensor_value_info
    node = helper.make_node("RNN", ["x", "w", "r", "", "lengths"], ["y"], name="layer", hidden_size=4)
    inputs = [value("x", TensorProto.FLOAT, [6, samples, 8]), value("lengths", TensorProto.INT32, [samples])]
    weights = [
        numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in (("w", (1, 4, 8)), ("r", (1, 4, 4)))
    ]
    graph = helper.make_graph([node], "g", inputs, [value("y", TensorProto.FLOAT, None)], weights)
    return WrittenModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


def nbits(level: int) -> WrittenModel:
    """A MatMulNBits at an accuracy level."""
    model = layer().model
    model.graph.node[-1].op_type = "MatMulNBits"
    model.graph.node[-1].attribute.append(helper.make_attribute("accuracy_level", level))
    return WrittenModel(model)


def pool(kind: int) -> WrittenModel:
    """An average pool of what a pair holds."""
    model = layer(kind).model
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["xd"], ["p"], name="pool"))
    return WrittenModel(model)


def conv(weight: type[np.generic], scale=0.01, activations=TensorProto.UINT8) -> WrittenModel:
    """A Conv between pairs, with 4 channels."""
    return layer(activations, np.ones((4, 3, 3, 3), weight), scale, op="Conv", weight_attributes={"axis": 0})


def float_weight(bias_scale=None) -> WrittenModel:
    """A Gemm between pairs whose weight is float."""
    model = layer(op="Gemm", bias_scale=bias_scale).model
    product = next(node for node in model.graph.node if node.name == "layer")
    product.input[1], product.output[0] = "floats", "c"
    model.graph.initializer.append(numpy_helper.from_array(np.ones((32, 4), np.float32), "floats"))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["c", "x_scale", "x_zero"], ["y"], name="yq"))
    return WrittenModel(model)


def integer_product(weight: np.ndarray) -> WrittenModel:
    """A QLinearMatMul, as the format qoperator has it."""
    scales = {name: numpy_helper.from_array(np.float32(0.1), name) for name in ("xs", "ws", "ys")}
    zeros = {"xz": np.uint8(0), "wz": np.int8(0), "yz": np.uint8(0), "w": weight}
    constants = scales | {name: numpy_helper.from_array(np.asarray(value), name) for name, value in zeros.items()}
    node = helper.make_node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], name="layer")
    value = helper.make_tensor_value_info
    ends = ([value(name, TensorProto.UINT8, None)] for name in "xy")
    graph = helper.make_graph([node], "g", *ends, list(constants.values()))
    return WrittenModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


def rows(*codes: int) -> np.ndarray:
    return np.array(codes, np.int8)[:, None].repeat(4, 1)


def declared() -> WrittenModel:
    """A model that declares a tensor inside its graph."""
    model = layer().model
    model.graph.value_info.append(helper.make_tensor_value_info("xd", TensorProto.FLOAT, ["N"]))
    return WrittenModel(model)


def table(block) -> WrittenModel:
    """A Gather from a table in codes, in blocks or with a scale a row."""
    scale = np.full((8, 32 // block) if block else 8, 0.01, np.float32)
    constants = [numpy_helper.from_array(np.ones((8, 32), np.int8), "t"), numpy_helper.from_array(scale, "s")]
    layout = {"axis": 1, "block_size": block} if block else {"axis": 0}
    nodes = [
        helper.make_node("DequantizeLinear", ["t", "s"], ["d"], name="td", **layout),
        helper.make_node("Gather", ["d", "x"], ["y"], name="lookup"),
    ]
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.INT64, ["N"])], [value("y", TensorProto.FLOAT, ["N", 32])]
    graph = helper.make_graph(nodes, "g", *ends, constants)
    return WrittenModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


PLANTED = {
    "types-it-has": ("tract", layer(TensorProto.INT16), layer()),
    "types-it-has, weights": ("tract", layer(weight=np.ones((4, 4), np.int16)), layer()),
    "types-it-has, tvm": ("tvm", layer(weight=np.ones((4, 4), ml_dtypes.int4)), layer(TensorProto.INT16)),
    "types-it-has, vitisai": ("vitisai", layer(TensorProto.UINT8), layer(TensorProto.INT16)),
    "types-it-has, tensorrt": ("tensorrt", layer(TensorProto.INT16), layer()),
    "types-it-has, openvino": ("openvino", layer(TensorProto.UINT16), layer(TensorProto.UINT8)),
    "byte-sums-in-range, openvino": ("openvino", layer(weight=rows(1, 100, 29)), layer(weight=rows(1, 100, 28))),
    "types-it-has, qnn": ("qnn", layer(TensorProto.INT16), layer(TensorProto.UINT16)),
    "weights-alone": ("tensorrt", alone(), layer()),
    "weights-alone, vitisai": ("vitisai", alone(), layer()),
    "weights-alone, qnn": ("qnn", alone(), layer(TensorProto.UINT8)),
    "unsigned-activations": ("qnn", layer(TensorProto.INT8), layer(TensorProto.UINT8)),
    "no-signed-16-bit-pools": ("qnn", pool(TensorProto.INT16), pool(TensorProto.UINT16)),
    "conv-weights": ("qnn", conv(np.uint8, [0.1] * 4), conv(np.uint8)),
    "conv-weights, wider than what it reads": ("qnn", conv(np.int16), conv(np.int16, activations=TensorProto.UINT16)),
    "no-blocks": (
        "qnn",
        layer(weight_scale=np.full((2, 4), 0.01), weight_attributes={"axis": 0, "block_size": 16}),
        layer(weight_scale=[0.1] * 4, weight_attributes={"axis": 1}),
    ),
    "whole-blocks": (
        "openvino",
        layer(TensorProto.UINT8, weight_scale=np.full((2, 4), 0.01), weight_attributes={"axis": 0, "block_size": 24}),
        layer(TensorProto.UINT8, weight_scale=np.full((2, 4), 0.01), weight_attributes={"axis": 0, "block_size": 16}),
    ),
    "no-blocks, tvm": (
        "tvm",
        layer(weight_scale=np.full((2, 4), 0.01), weight_attributes={"axis": 0, "block_size": 16}),
        layer(weight_scale=[0.1] * 4, weight_attributes={"axis": 1}),
    ),
    "no-blocks, a table": ("tvm", table(16), table(0)),
    "states-beside-floats": ("openvino", layer(TensorProto.UINT8, op="LSTM"), layer(TensorProto.UINT8, op="RNN")),
    "lengths-with-fixed-sizes": ("openvino", with_lengths("N"), with_lengths(3)),
    "one-scale-beside-states": (
        "qnn",
        layer(TensorProto.UINT8, op="GRU", weight_scale=[0.1] * 4, weight_attributes={"axis": 1}),
        layer(TensorProto.UINT8, op="GRU"),
    ),
    "no-quantized-rnn": ("qnn", layer(TensorProto.UINT8, op="RNN"), layer(TensorProto.UINT8, op="GRU")),
    "no-value-info": ("tract", declared(), layer()),
    "opset-it-knows": ("vitisai", layer(opset=18), layer(opset=17)),
    "zero-points-are-0": ("tensorrt", layer(weight_zero=1), layer()),
    "zero-points-are-0, vitisai": ("vitisai", layer(weight_zero=1), layer()),
    "power-of-two-scales": ("vitisai", layer(weight_scale=0.01), layer(weight_scale=2**-6, input_scale=0.5)),
    "float-biases": ("tensorrt", layer(op="Gemm", bias_scale=0.001), layer(op="Gemm")),
    "pairs-have-kernels": ("onnxruntime", layer(opset=28), layer(opset=27)),
    "pairs-have-kernels, 16 bits": (
        "onnxruntime",
        layer(TensorProto.INT16, opset=20),
        layer(TensorProto.INT16, opset=21, weight=np.ones((4, 4), np.int16)),
    ),
    "no-rounded-products": (
        "onnxruntime",
        layer(TensorProto.INT16),
        layer(TensorProto.INT16, weight=np.ones((1, 32, 4), np.int8)),
    ),
    "no-rounded-products, Gemm": (
        "onnxruntime",
        layer(TensorProto.UINT16, op="Gemm"),
        layer(TensorProto.UINT16, op="Gemm", transB=1),
    ),
    "no-rounded-products, MatMulNBits": ("onnxruntime", nbits(4), nbits(1)),
    "byte-sums-in-range": ("onnxruntime", layer(weight=rows(1, 100, 29)), layer(weight=rows(1, 100, 28))),
    "byte-sums-in-range, uint8": (
        "onnxruntime",
        layer(weight=rows(-100, -29)),
        layer(weight=rows(100, 127).astype(np.uint8)),
    ),
    "byte-sums-in-range, integer operator": (
        "onnxruntime",
        integer_product(rows(1, 100, 29)),
        integer_product(rows(1, 100, 28)),
    ),
    "int8-beside-int8": (
        "onnxruntime-vnni",
        layer(TensorProto.INT8, weight=np.ones((32, 4), np.uint8)),
        layer(TensorProto.INT8),
    ),
    "bias-at-product-scale": (
        "onnxruntime",
        layer(op="Gemm", bias_scale=0.00101),
        layer(op="Gemm", bias_scale=np.float32(0.1) * np.float32(0.01)),
    ),
    "no-rounded-weights": ("onnxruntime", float_weight(), float_weight(bias_scale=1e-9)),
    "one-zero-point-a-weight": ("onnxruntime", layer(shared_zero=True), layer()),
    "blocks-of-4-bits-only": (
        "onnxruntime",
        layer(weight_scale=np.full((2, 4), 0.01), weight_attributes={"axis": 0, "block_size": 16}),
        layer(),
    ),
    "channels-of-matrices-only": (
        "onnxruntime",
        layer(weight=np.ones((2, 32, 4), np.int8), weight_scale=[0.1] * 4, weight_attributes={"axis": 2}),
        layer(weight=np.ones((2, 32, 4), np.int8)),
    ),
    "equal-zero-points": (
        "onnxruntime",
        layer(
            weight=np.ones((4, 4), np.uint8),
            weight_scale=[0.1] * 4,
            weight_zero=[1, 2, 1, 1],
            weight_attributes={"axis": 1},
        ),
        layer(
            weight=np.ones((4, 4), np.uint8), weight_scale=[0.1] * 4, weight_zero=[1] * 4, weight_attributes={"axis": 1}
        ),
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_rule_finds_what_breaks_it_and_nothing_else(case):
    name, broken, kept = PLANTED[case]
    rule = case.partition(",")[0]
    found = {finding.rule for finding in profile_of(name).findings(broken)}
    assert rule in found
    assert rule not in {finding.rule for finding in profile_of(name).findings(kept)}


def test_every_rule_of_every_profile_has_a_planted_violation():
    planted = {(name, case.partition(",")[0]) for case, (name, _, _) in PLANTED.items()}
    shared = {rule.name for one in ("onnxruntime", "reference") for rule in profile_of(one).rules}
    asked = {(one.name, rule.name) for one in PROFILES.values() for rule in one.rules}
    assert {rule for _, rule in planted} == {rule for _, rule in asked}
    assert {(name, rule) for name, rule in asked if rule not in shared} <= planted


SETTINGS = {
    "float32": {"wide": "float32"},
    "a16w8": {},
    "a8w8": {"wide": "a8w8"},
    "au16w8": {"wide": "au16w8"},
    "au8w8-channels": {"wide": "au8w8", "per_channel": True},
    "au8w8-fast": {"wide": "au8w8", "byte_sums": "fast"},
    "a8w4": {"wide": "a8w4"},
    "a16w4-blocks": {"wide": "a16w4", "block_size": 16},
    "float32w8": {"wide": "float32w8"},
    "float16w4-blocks": {"wide": "float16w4", "block_size": 16},
}


@pytest.mark.parametrize("runtime", PROFILES)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    "model", ["chain", "residual", "gemm-variants", "matmul-variants", "transformer", "grouped", "shared-weight"]
)
def test_what_a_profile_wrote_breaks_none_of_its_rules(workbench, runtime, setting, model):
    profile = profile_of(runtime)
    options = {name: legal[0] for name, legal in profile.options.items() if name != "format"}
    wide = Precision.parse(SETTINGS[setting].get("wide", "a16w8"))
    if profile.why_not(wide):
        pytest.skip(profile.why_not(wide))
    made = workbench(model, **{"runtime": runtime, **SETTINGS[setting], **options})
    narrow = "au8w8" if profile.why_not(Precision.parse("a8w8")) else "a8w8"
    for plan in made.plans(narrow)[:2] if setting in ("a16w8", "au16w8", "float32") else [made.wide]:
        assert profile_of(runtime).findings(WrittenModel(made.exported(plan))) == []


def test_the_registry_and_the_configuration_name_the_same_runtimes():
    assert list(RuntimeName.__args__) == list(PROFILES)


def test_an_unknown_runtime_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="'tpu' is not known: there are onnxruntime"):
        profile_of("tpu")


def test_a_precision_without_kernels_is_refused():
    assert profile_of("onnxruntime").why_not(Precision.parse("a16w4")) == ""
    assert profile_of("onnxruntime").why_not(Precision.parse("float16")) == ""


@pytest.mark.parametrize("precision", ["a8w8", "au8w8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_integer_operators_that_are_written_do_not_saturate(tmp_path, precision, per_channel):
    weights = {"w": np.random.default_rng(0).normal(1, 0.1, (8, 4, 3, 3)).astype(np.float32)}  # all near their largest
    model = build("(float[N,4,8,8] x) => (float[N,8,6,6] y) { [layer] y = Conv(x, w) }", weights)
    config = LayerWiseConfig(wide=precision, format="qoperator", per_channel=per_channel)
    data = samples(model, 8)
    made = layer_wise(saved(model, tmp_path), tensors={}, calibration=data, config=config, output=tmp_path / "out")
    written = WrittenModel.of_file(made.folder / "model.onnx")
    assert [node.op_type for node, _, _ in written.integer_products()] == ["QLinearConv"]
    assert profile_of("onnxruntime").findings(written) == []


def test_integer_operators_of_int8_do_not_take_uint8_weights():
    with pytest.raises(ValueError, match="byte_sums: exact stores weights as uint8"):
        LayerWiseConfig(wide="a8w8", format="qoperator", byte_sums="exact")
