"""`narrowcast check`: any quantized file, as a runtime computes it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from quant_core.config import LayerWiseConfig
from quant_core.errors import InputError
from quant_core.pipeline.check import check_file
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.runtimes.processor import adds_bytes_in_32_bits
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved

COUNT = 64


@pytest.fixture
def network(tmp_path):
    model = MODELS["two-activations"]()
    return saved(model, tmp_path), samples(model, COUNT)


def written(network, folder, **config):
    model, data = network
    made = layer_wise(
        model, tensors={}, calibration=data, config=LayerWiseConfig(**config), output=folder / "out", workers=1
    )
    return made.folder / "model.onnx"


@pytest.mark.parametrize("options", [{}, {"wide": "au8w8"}, {"wide": "a8w4", "per_channel": True}], ids=str)
def test_what_the_default_profile_wrote_is_what_its_pairs_say(network, tmp_path, options):
    model, data = network
    file = written(network, tmp_path, **options)
    found = check_file(file, "onnxruntime", data, model)
    assert not found.differs and not found.findings and not found.refusal and found.compared_with == "float"
    assert max(found.errors.values()) < 1e-2
    assert [kernel.layer for kernel in found.kernels] == list(found.errors)
    assert not any(found.saturation.values())
    nodes = {node.name: node.op_type for node in onnx.load(file).graph.node}
    others = {name for name, op in nodes.items() if op not in ("QuantizeLinear", "DequantizeLinear", "Constant")}
    assert {one.layer for one in (*found.kernels, *found.others)} == others
    assert all(nodes.keys() >= set(kernel.because_of) for kernel in found.kernels)


def test_a_float_model_is_what_it_says_though_sums_are_added_up_in_another_order(tmp_path):
    model = MODELS["chain"]()
    file, data = saved(model, tmp_path), samples(model, COUNT)
    assert not check_file(file, "onnxruntime", data, file).differs


def test_a_fused_product_is_named_with_its_own_error(network, tmp_path):
    model, data = network
    found = check_file(written(network, tmp_path, runtime="reference"), "onnxruntime", data, model)
    named = {finding.node for finding in found.findings}
    assert found.differs and named and {finding.rule for finding in found.findings} == {"no-rounded-products"}
    fused = {kernel.layer for kernel in found.kernels if kernel.runs_as == "MatMulNBits"}
    assert fused == named and all(found.errors[name] > 1e-3 for name in fused)
    assert not check_file(written(network, tmp_path, runtime="reference"), "reference", data, model).differs


@pytest.mark.parametrize(
    ("wide", "why"),
    [
        ("a8w8", "its Relu is not fused: 0 is not the lowest code of the int8 pair after it"),
        ("a16w8", "no integer kernel for int16 activations and int8 weights"),
        ("a8w4", "no integer kernel for int8 activations and int4 weights"),
    ],
)
def test_why_a_layer_is_computed_in_float_is_said_with_the_nodes(tmp_path, wide, why):
    body = "(float[N,3,8,8] x) => (float[N,4,6,6] y) { [c] h = Conv(x, w) [r] r = Relu(h) [d] y = Conv(r, v) }"
    model = build(body.replace("6,6", "4,4"), {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3)})
    source, data = saved(model, tmp_path), samples(model, 8)
    first = check_file(written((source, data), tmp_path, wide=wide), "onnxruntime", data).kernels[0]
    assert (first.layer, first.why) == ("c", why) and first.because_of


class Reader(CalibrationDataReader):
    def __init__(self, data):
        self.batches = iter([data])

    def get_next(self):
        return next(self.batches, None)


def test_a_file_of_another_tool_is_checked(tmp_path):
    """u8 x s8 per channel, as ONNX Runtime's own quantizer writes it: right with VNNI, saturating without."""
    rng = np.random.default_rng(0)
    weight = np.abs(rng.normal(1, 0.2, (64, 8))).astype(np.float32)
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [make("MatMul", ["x", "w"], ["y"], name="layer")],
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["N", 64])],
        [value("y", onnx.TensorProto.FLOAT, ["N", 8])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    source = saved(model, tmp_path)
    data = {"x": rng.uniform(0.5, 1, (COUNT, 64)).astype(np.float32)}
    quantize_static(
        source,
        tmp_path / "quantized.onnx",
        Reader(data),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    found = check_file(tmp_path / "quantized.onnx", "onnxruntime", data, source)
    assert {finding.rule for finding in found.findings} == {"byte-sums-in-range"}
    assert found.kernels[0].is_integer
    [saturation] = found.saturation.values()
    assert saturation > 0.05 and found.saturates_here == (not adds_bytes_in_32_bits())
    if found.saturates_here:
        assert found.errors[found.kernels[0].layer] == pytest.approx(saturation, rel=0.3)
    assert (found.errors[found.kernels[0].layer] < 1e-2) == adds_bytes_in_32_bits() == (not found.differs)


def test_without_a_float_model_the_file_is_held_against_what_its_pairs_say(network, tmp_path):
    found = check_file(written(network, tmp_path), "onnxruntime", network[1])
    assert found.compared_with == "reference" and found.reference["l2"] == 0.0 and not found.differs


def test_a_runtime_that_does_not_saturate_is_not_said_to(network, tmp_path):
    found = check_file(written(network, tmp_path), "reference", network[1])
    assert not found.saturates_here and not found.saturation


def test_a_file_that_fails_at_its_first_run_is_told_as_such(tmp_path):
    rng = np.random.default_rng(0)
    helper, numpy_helper, proto = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    constants = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w": rng.integers(-60, 60, (32, 4)).astype(np.int8),
        "ws": np.full((2, 4), 0.01, np.float32),
        "wz": np.zeros((2, 4), np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="d"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="wd", axis=0, block_size=16),
        helper.make_node("MatMul", ["xd", "wd"], ["y"], name="layer"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", proto.FLOAT, ["N", 32])],
        [value("y", proto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = check_file(saved(model, tmp_path), "onnxruntime", {"x": rng.normal(size=(4, 32)).astype(np.float32)})
    assert found.differs and "MatMulIntegerToFloat" in found.refusal and found.deployed == {}
    assert {finding.rule for finding in found.findings} == {"blocks-of-4-bits-only"}


def test_an_unknown_runtime_is_refused(network, tmp_path):
    with pytest.raises(InputError, match="runtime 'tpu' is not known"):
        check_file(network[0], "tpu", network[1])
