from __future__ import annotations

import numpy as np
import onnx
import pytest

from quant_core.model.graph import FloatGraph, attribute, outer_names
from tests.models import MODELS, build


def graph_of(model: onnx.ModelProto, tmp_path) -> FloatGraph:
    return FloatGraph(onnx.shape_inference.infer_shapes(model), tmp_path)


def test_initializers_listed_as_inputs_are_not_fed(tmp_path):
    assert graph_of(MODELS["opset-9-ir-3"](), tmp_path).inputs == ("x",)


def test_every_reader_of_a_tensor_is_found(tmp_path):
    graph = graph_of(MODELS["residual"](), tmp_path)
    assert graph.readers["r"] == ((2, 0), (3, 1))
    assert graph.producer["r"] == 1


def test_reads_from_inside_a_subgraph_have_no_position(tmp_path):
    graph = graph_of(MODELS["if-body"](), tmp_path)
    branch = next(index for index, node in enumerate(graph.nodes) if node.op_type == "If")
    assert (branch, -1) in graph.readers["r"]
    assert (branch, 0) in graph.readers["flag"]
    assert graph.named_outside == {"r", "y"}


def test_names_a_subgraph_makes_itself_are_not_outer():
    node = MODELS["if-body"]().graph.node[4]
    assert set(outer_names(node)) == {"r", "half"}


def test_outer_names_are_found_through_two_levels():
    inner = "If(flag) <then_branch = g3 () => (float[2] p) { p = Sin(deep) }, else_branch = g4 () => (float[2] q) { q = Cos(own) }>"
    model = build(
        f"""(bool flag, float[2] deep) => (float[2] y) {{
            y = If(flag) <
                then_branch = g1 () => (float[2] o1) {{ own = Neg(deep) o1 = {inner} }},
                else_branch = g2 () => (float[2] o2) {{ o2 = Identity(deep) }}
            >
        }}"""
    )
    assert set(outer_names(model.graph.node[0])) == {"deep", "flag"}


def test_an_output_that_is_an_input_is_named_by_no_node(tmp_path):
    graph = graph_of(MODELS["odd-outputs"](), tmp_path)
    assert "x" in graph.outputs
    assert "x" not in graph.named_outside


def test_dynamic_dimensions_are_none(tmp_path):
    graph = graph_of(MODELS["dynamic-dims"](), tmp_path)
    assert graph.shape("x") == (None, 3, None, None)
    assert graph.shape("w1") == (4, 3, 3, 3)
    assert graph.shape("nowhere") is None


def test_only_float_values_that_change_are_activations(tmp_path):
    graph = graph_of(MODELS["transformer"](), tmp_path)
    assert graph.is_float_activation("e")
    assert not graph.is_float_activation("ids")  # integers
    assert not graph.is_float_activation("wq")  # a constant
    assert not graph.is_float_activation("")  # an input left out
    assert graph.is_float_constant("wq")
    assert not graph.is_float_constant("e")


def test_external_constants_are_mapped_not_loaded(tmp_path):
    model = MODELS["chain"]()
    expected = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    graph = FloatGraph.load(tmp_path / "m.onnx")
    assert isinstance(graph.constant("w2"), np.memmap)
    for name, array in expected.items():
        np.testing.assert_array_equal(graph.constant(name), array)


@pytest.mark.parametrize(("name", "expected"), [("group", 4), ("kernel_shape", None)], ids=["given", "default"])
def test_attributes_have_defaults(name, expected):
    node = MODELS["grouped"]().graph.node[0]
    assert attribute(node, name, None) == expected
