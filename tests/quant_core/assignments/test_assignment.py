"""From names and patterns to the plan of a model."""

from __future__ import annotations

import pytest

from quant_core.assignments.assignment import Assignment
from quant_core.errors import InputError, UnsupportedError
from quant_core.precision import PrecisionPlan
from tests.models import build
from tests.quant_core.workbench import bench


@pytest.fixture
def plan(workbench):
    def resolved(model: str, /, **written: list[str]) -> PrecisionPlan:
        made = workbench(model)
        return Assignment.of(written).plan(made.graph, made.layers, made.config.wide)

    return resolved


def test_what_is_not_named_is_wide(plan):
    assert plan("chain").as_dict() == dict.fromkeys(["c1", "c2", "c3", "fc"], "a16w8")


@pytest.mark.parametrize(
    ("written", "narrow"),
    [
        pytest.param({"a8w8": ["c1", "fc"]}, {"c1": "a8w8", "fc": "a8w8"}, id="a precision"),
        pytest.param({"int8": ["c2"]}, {"c2": "a8w8"}, id="a type is that of both sides"),
        pytest.param({"int16": ["c2"]}, {"c2": "a16w16"}, id="wider than wide"),
        pytest.param({"a8w4": ["c?"]}, dict.fromkeys(["c1", "c2", "c3"], "a8w4"), id="a pattern"),
        pytest.param({"float32": ["fc"]}, {"fc": "float32"}, id="a float type"),
        pytest.param({"a8w8": ["*"], "a16w16": ["c1"]}, {"c1": "a16w16"}, id="a name goes before a pattern"),
    ],
)
def test_layers_by_name(plan, written, narrow):
    found = plan("chain", **written)
    assert {name: kind for name, kind in found.as_dict().items() if name in narrow} == narrow
    assert found.tensors == ()


def test_a_layer_reads_a_named_tensor_in_its_type(plan):
    found = plan("three-readers", int8=["r"])
    assert found.tensor_types() == {"r": "int8"}
    assert found.as_dict() == {"stem": "a16w8", "one": "a8w8", "two": "a8w8", "three": "a8w8"}


def test_a_named_weight_is_its_layers(plan):
    found = plan("chain", int16=["w2"])
    assert found.as_dict()["c2"] == "a16w16"
    assert found.tensors == ()


def test_a_named_layer_keeps_its_precision_beside_a_named_tensor(plan):
    found = plan("three-readers", int8=["r"], a16w8=["one"])
    assert found.as_dict() == {"stem": "a16w8", "one": "a16w8", "two": "a8w8", "three": "a8w8"}


def test_layers_come_before_tensors_of_the_same_name(tmp_path):
    model = build(
        "(float[N,4] x) => (float[N,4] y) { [a] a = MatMul(x, w)  [y] y = MatMul(a, v) }", {"w": (4, 4), "v": (4, 4)}
    )
    made = bench(model, tmp_path)

    def found(name):
        return Assignment.of({"int8": [name]}).plan(made.graph, made.layers, made.config.wide)

    assert found("a").as_dict() == {"a": "a8w8", "y": "a16w8"}
    assert found("a").tensors == ()
    assert found("tensor:a").tensor_types() == {"a": "int8"}
    assert found("tensor:a").as_dict() == {"a": "a16w8", "y": "a8w8"}


def test_a_name_with_brackets_is_a_name(tmp_path):
    model = build("(float[N,4] x) => (float[N,4] y) { [a] y = MatMul(x, w) }", {"w": (4, 4)})
    model.graph.node[0].name = "block[0]"
    made = bench(model, tmp_path)
    found = Assignment.of({"a8w8": ["block[0]"]}).plan(made.graph, made.layers, made.config.wide)
    assert found.as_dict() == {"block[0]": "a8w8"}


@pytest.mark.parametrize(
    ("model", "written", "message"),
    [
        (
            "residual",
            {"int8": ["heads"]},
            "'heads' is neither a layer nor a tensor of the prepared model; did you mean 'head'",
        ),
        ("chain", {"int8": ["zzz*"]}, "'zzz[*]' is neither a layer nor a tensor"),
        ("chain", {"int8": ["layer:x"]}, "'layer:x': no layer has that name"),
        ("chain", {"a8w8": ["x"]}, "'x' is a tensor: it has a type"),
        ("chain", {"int8": ["a"]}, "'a' carries no type: runtimes fuse it with Relu; name 'a1'"),
        ("chain", {"int8": ["b1"]}, "'b1' is a bias: it is int32"),
        ("chain", {"int4": ["c1"]}, "layer 'c1' cannot be int4 on both sides: write a precision such as a8w4"),
        ("chain", {"int4": ["x"]}, "'x' cannot be int4: a tensor may be int8"),
        ("chain", {"int8": ["c1"], "int16": ["c1"]}, "'c1' is named twice: int8 by 'c1', int16 by 'c1'"),
        ("chain", {"int8": ["c*"], "int16": ["*1"]}, "'c1' is named twice: int8 by 'c[*]', int16 by '[*]1'"),
        ("chain", {"a8w8": ["c1"], "int16": ["w1"]}, "layer 'c1' is named a8w8 and its weight 'w1' int16"),
        ("lstm", {"int8": ["all"]}, "'all' carries no type: nothing quantized reads or writes it"),
    ],
)
def test_what_is_wrong_with_a_name(plan, model, written, message):
    with pytest.raises(InputError, match=message):
        plan(model, **written)


def test_a_mix_that_no_layer_computes_in_is_refused(plan):
    with pytest.raises(UnsupportedError, match="layer 'c1' would read int8 and have a weight in float16"):
        plan("chain", int8=["x"], float16=["w1"])
    assert plan("chain", float16=["x"]).as_dict()["c1"] == "float16w8"
    assert plan("chain", float16=["x", "w1"]).as_dict()["c1"] == "float16"


def test_what_is_no_type_is_refused():
    with pytest.raises(InputError, match=r"'int7' is neither a type \(int2, .*\) nor a precision such as a8w8"):
        Assignment.of({"int7": ["x"]})


@pytest.mark.parametrize("model", ["chain", "three-readers", "two-activations", "shared-weight", "transformer"])
def test_a_plan_is_what_its_own_names_say(workbench, model):
    made = workbench(model)
    first = made.layers[0]
    before = Assignment.of({"a8w8": ["*"], "int16": [f"tensor:{first.activations[0]}"]})
    plan = before.plan(made.graph, made.layers, made.config.wide)
    assert Assignment.of_plan(plan).plan(made.graph, made.layers, made.config.wide) == plan
