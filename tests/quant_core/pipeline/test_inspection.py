"""What `inspect_model` tells of a model."""

from __future__ import annotations

import pytest

from quant_core.pipeline.inspection import inspect_model
from tests.models import MODELS, build
from tests.quant_core.workbench import saved


@pytest.fixture
def inspected(tmp_path):
    return lambda model: inspect_model(saved(model, tmp_path))


def test_layers_with_their_costs(inspected):
    found = inspected(MODELS["chain"]())
    assert [layer["layer"] for layer in found["layers"]] == ["c1", "c2", "c3", "fc"]
    assert found["layers"][0]["macs"] == 8 * 8 * 4 * 27
    assert found["total"] == {
        "macs": sum(layer["macs"] for layer in found["layers"]),
        "weight_bytes": 4 * (4 * 27 + 4 * 36 + 6 * 36 + 4 * 6),
    }
    assert found["left_alone"] == []


def test_inputs_and_outputs_have_type_and_shape(inspected):
    found = inspected(MODELS["transformer"]())
    assert found["inputs"] == [{"name": "ids", "type": "int64", "shape": [None, None]}]
    assert found["outputs"] == [{"name": "y", "type": "float", "shape": [None, None, 3]}]


def test_every_tensor_is_listed_with_its_size_and_why_it_is_not_quantized(inspected):
    found = {tensor["name"]: tensor for tensor in inspected(MODELS["chain"]())["tensors"]}
    assert found["x"]["quantized"] and found["x"]["bytes"] == 4 * 3 * 8 * 8
    assert found["a1"] == {
        **{"name": "a1", "type": "float", "shape": [None, 4, 8, 8], "bytes": 4 * 4 * 8 * 8},
        **{"quantized": True, "why": None},
    }
    assert not found["a"]["quantized"] and "activation that reads it" in found["a"]["why"]
    ids = inspected(MODELS["transformer"]())["tensors"][0]
    assert (ids["name"], ids["quantized"], ids["why"]) == ("ids", False, "does not hold float32")


def test_a_branch_is_part_of_the_model_once_the_input_that_chooses_it_is_fixed(tmp_path):
    model = MODELS["if-body"]()
    found = inspect_model(saved(model, tmp_path), fix_inputs=["chooser=-1"])
    assert "Cos" in {entry["op"] for entry in found["left_alone"]}
    assert {"If", "Sin"}.isdisjoint(entry["op"] for entry in found["left_alone"])
    assert [entry["name"] for entry in found["inputs"]] == ["x"]


@pytest.mark.parametrize(
    ("name", "op", "why"),
    [
        ("custom-domain", "com.microsoft:QuickGelu", "an operator of another domain"),
        ("if-body", "If", "an operator without a quantized form here"),
        ("if-body", "Mul", "is in the body of If"),
        ("loop-body", "MatMul", "is in the body of Loop"),
        ("scan-body", "Sin", "is in the body of Scan"),
        ("dynamic-dims", "Shape", "an operator without a quantized form here"),
    ],
)
def test_what_is_left_alone_is_said_with_the_reason(inspected, name, op, why):
    found = inspected(MODELS[name]())["left_alone"]
    assert next(entry["why"] for entry in found if entry["op"] == op and entry["nodes"] == 1).startswith(why)


def test_nodes_left_alone_are_counted(inspected):
    model = build("(float[N,4] x) => (float[N,4] y) { a = Sin(x)  b = Sin(a)  y = MatMul(b, w) }", {"w": (4, 4)})
    assert inspected(model)["left_alone"] == [
        {"op": "Sin", "nodes": 2, "why": "an operator without a quantized form here"}
    ]


def test_what_inputs_and_outputs_are_is_said_and_open_sizes_are_no_costs(inspected):
    found = inspected(
        build(
            "(float[batch,3,H,W] x, float[2,batch,4] s, float r) => (float[batch,4,P,Q] y, float[7,5] z) { "
            "y = Conv(x, w)  a = Mul(s, r)  g = ReduceSum<keepdims=0>(a)  z = Mul(k, g) }",
            {"w": (4, 3, 3, 3), "k": (7, 5)},
        )
    )
    assert found["open"] == [found["layers"][0]["layer"]]
    assert found["signature"] == {
        **{"x": "samples on axis 0", "s": "samples on axis 1", "r": "a constant"},
        **{"y": "samples on axis 0, logits if these are classes, along axis 1", "z": "shows on the calibration data"},
    }
    assert found["axes"] == {"sample_axis": ["x=0", "s=1", "y=0"], "classes": ["y=1"]}


def test_an_output_behind_a_softmax_is_said_to_be_probabilities(inspected):
    model = build("(float[t,batch,4] x) => (float[t,batch,6] y) { a = MatMul(x, w)  y = Softmax(a) }", {"w": (4, 6)})
    assert inspected(model)["signature"]["y"] == "samples on axis 1, probabilities along axis 2"


def test_sizes_that_are_fixed_are_no_open_ones(inspected):
    assert inspected(MODELS["chain"]())["open"] == []
