from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quant_core.model.graph import FloatGraph, inner_graphs
from quant_core.model.half_precision import HALVES, has_halves, keep_types, types_given, types_kept, widened
from quant_core.model.sessions import open_file
from tests.models import MODELS, samples

KINDS = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def halved(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """The model with every float32 in a narrower type, but for what operators want in float32."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    kept = {node.input[2] for node in found.graph.node if node.op_type == "Resize"}

    def narrow(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
                array = onnx.numpy_helper.to_array(tensor).astype(dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        for value in [*graph.input, *graph.output]:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = kind
        for node in graph.node:
            for entry in node.attribute:
                if entry.t.data_type == TensorProto.FLOAT:
                    array = onnx.numpy_helper.to_array(entry.t).astype(dtype)
                    entry.t.CopyFrom(onnx.numpy_helper.from_array(array))
            for inner in inner_graphs(node):
                narrow(inner)

    narrow(found.graph)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["chain", "transformer", "constant_nodes", "if_body", "scan_body"])
def test_in_float32_a_model_computes_what_it_does_with_its_rounded_weights(tmp_path, name, kind):
    name = name.replace("_", "-")
    model = halved(MODELS[name](), KINDS[kind])
    assert has_halves(model)
    wide = widened(model, tmp_path, tmp_path)
    onnx.checker.check_model(wide, full_check=False)
    assert not has_halves(wide)
    onnx.save(wide, tmp_path / "wide.onnx")
    feeds = samples(MODELS[name]())
    exact = MODELS[name]()
    for tensor in exact.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor)
            rounded = array.astype(onnx.helper.tensor_dtype_to_np_dtype(KINDS[kind])).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    onnx.save(exact, tmp_path / "exact.onnx")
    found, right = (open_file(tmp_path / file)(feeds) for file in ("wide.onnx", "exact.onnx"))
    for output in right:
        np.testing.assert_allclose(found[output], right[output], rtol=2e-2, atol=2e-2)


def test_a_model_in_float32_has_none(tmp_path):
    assert not has_halves(MODELS["chain"]())
    assert types_given(MODELS["chain"]()) == {}


def test_a_cast_in_the_middle_is_found():
    model = MODELS["chain"]()
    model.graph.node[-1].input[0] = "cast"
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Cast", ["e"], ["half"], to=10))
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Cast", ["half"], ["cast"], to=1))
    assert has_halves(model)
    assert types_given(model) == {"half": TensorProto.FLOAT16}


def test_types_are_kept_in_the_prepared_model_for_what_it_still_has(tmp_path):
    model = halved(MODELS["chain"](), TensorProto.FLOAT16)
    given = types_given(model)
    wide = widened(model, tmp_path, tmp_path)
    keep_types(wide, given | {"gone": TensorProto.FLOAT16})
    kept = types_kept(FloatGraph(wide, tmp_path))
    assert {"x", "w1", "y"} <= kept.keys() <= given.keys()
    assert set(kept.values()) == {TensorProto.FLOAT16} <= HALVES


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_fed_and_read_in_float32(tmp_path, kind):
    ends = [onnx.helper.make_tensor_value_info(name, KINDS[kind], ["N", 2]) for name in "xy"]
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["a"], to=1),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("Cast", ["b"], ["y"], to=KINDS[kind]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
              tmp_path / "m.onnx")  # fmt: skip
    session = open_file(tmp_path / "m.onnx")
    assert (session.inputs, session.outputs) == (("x",), ("y",))
    found = session({"x": np.array([[1.001, -2]], np.float32)})["y"]
    assert found.dtype == np.float32
    rounded = np.float32(1.001).astype(onnx.helper.tensor_dtype_to_np_dtype(KINDS[kind])).astype(np.float32)
    np.testing.assert_array_equal(found, [[rounded, 0]])
