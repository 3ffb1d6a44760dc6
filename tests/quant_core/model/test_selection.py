"""Nodes that stay in float by name, and what that does to the graph around them."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core import InputError
from quant_core.execution.machine import Machine
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import find_layers
from quant_core.model.operators import DEFAULT_LAYER_OPS, Role
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.selection import is_left_in_float, names_meant
from quant_core.model.topology import Topology
from quant_core.storage.references import refer
from tests.models import MODELS
from tests.quant_core.workbench import saved


def prepared(folder, *exclude: str) -> FloatGraph:
    table = prepare(
        refer(saved(MODELS["residual"](), folder)), DEFAULT_LAYER_OPS, Machine(folder / "cache"), exclude=exclude
    )
    return prepared_graph(table, folder / "cache")


def roles(graph: FloatGraph) -> dict[str, Role]:
    topology = Topology.of(graph, find_layers(graph))
    return {node.output[0]: role for node, role in zip(graph.nodes, topology.roles, strict=True)}


def test_an_excluded_layer_is_no_layer(tmp_path):
    graph = prepared(tmp_path, "inner")
    assert [layer.name for layer in find_layers(graph)] == ["stem", "head"]
    assert roles(graph)["b"] is Role.FLOAT
    assert roles(graph)["t"] is Role.COMPUTE  # what another layer wrote is quantized as before
    assert [node.name for node in graph.nodes if is_left_in_float(node)] == ["inner"]


def test_an_excluded_activation_is_not_fused(tmp_path):
    relu = next(node.name for node in prepared(tmp_path).nodes if node.output[0] == "r")
    graph = prepared(tmp_path, relu)
    assert roles(graph)["r"] is Role.FLOAT
    assert "a" not in Topology.of(graph, find_layers(graph)).fused


def test_what_moves_the_values_of_an_excluded_node_stays_in_float_too(tmp_path):
    found = roles(prepared(tmp_path, "stem"))
    assert (found["a"], found["r"], found["b"]) == (Role.FLOAT, Role.FLOAT, Role.LAYER)


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [(["stem"], {"stem"}), (["*e*"], {"stem", "inner", "head"}), (["he[a]d", "inner"], {"head", "inner"}), ([], set())],
)
def test_names_and_patterns(patterns, meant):
    assert names_meant(dict.fromkeys(["stem", "inner", "head"], "Conv"), patterns, "exclude", "node") == meant


def test_a_pattern_that_means_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"exclude: no node has the name 'stemm'; did you mean 'stem'\?"):
        prepared(tmp_path, "stemm")


def test_a_name_with_brackets_is_no_pattern():
    assert names_meant({"a[0]": "Conv", "a0": "Conv"}, ["a[0]"], "exclude", "node") == {"a[0]"}


def test_what_is_excluded_has_the_weight_it_had(tmp_path):
    weights = [np.asarray(prepared(tmp_path, *names).constant("w2")) for names in ((), ("inner",))]
    np.testing.assert_array_equal(*weights)


def test_a_rule_may_be_about_an_operator():
    operators = {"a": "Conv", "b": "Softmax", "c": "MaxPool", "d": "AveragePool", "op:e": "Gemm"}
    assert names_meant(operators, ["op:Softmax"], "exclude", "node") == {"b"}
    assert names_meant(operators, ["op:*Pool", "a"], "exclude", "node") == {"a", "c", "d"}
    assert names_meant(operators, ["op:e"], "exclude", "node") == {"op:e"}


@pytest.mark.parametrize(
    ("rule", "hint"), [("op:Sofmax", "did you mean 'op:Softmax'?"), ("op:Xyz", "there are Conv, Softmax")]
)
def test_an_operator_that_is_not_there_is_refused(rule, hint):
    with pytest.raises(InputError) as caught:
        names_meant({"a": "Conv", "b": "Softmax"}, [rule], "keep_wide", "layer")
    assert str(caught.value).startswith(f"keep_wide: no layer has the operator {rule[3:]!r}")
    assert hint in str(caught.value)
