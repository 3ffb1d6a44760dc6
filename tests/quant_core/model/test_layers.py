from __future__ import annotations

import pytest

from quant_core.model.layers import find_layers, layer_table, layers_from_table
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS, Role, role_of
from tests.models import MODELS

LAYERS = {
    "chain": ["c1", "c2", "c3", "fc"],
    "shared-weight": ["first", "mixing"],
    "shared-bias": ["first", "second"],
    "two-activations": ["query", "key", "scores"],
    "movers": ["c1", "c2", "fc"],
    "lstm": ["conv", "LSTM_3", "fc"],
    "if-body": ["c1", "c2", "c3"],
    "loop-body": ["before", "after"],  # not the one inside the body
    "constant-nodes": ["a", "b"],
    "custom-domain": ["before", "after"],
    "several-inputs-and-outputs": ["c", "fc"],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_found_in_graph_order(workbench, name):
    assert workbench(name).names == LAYERS[name]


def test_nodes_that_share_a_weight_are_one_layer(workbench):
    first, mixing = workbench("shared-weight").layers
    assert len(first.nodes) == 2
    assert first.activations == ("x", "z")
    assert first.weight == "w"
    assert first.macs == 2 * 4 * 3 * 36
    assert mixing.macs == 4 * 4 * 36


def test_every_operator_that_computes_may_be_a_layer(workbench):
    found = workbench("transformer", layer_ops=(*DEFAULT_LAYER_OPS, *COMPUTE_OPS)).layers
    assert [layer.op for layer in found][:5] == ["LayerNormalization", "MatMul", "Add", "MatMul", "MatMul"]
    added = next(layer for layer in found if layer.op == "Add")
    assert (added.activations, added.weight, added.macs) == (("q_",), None, 0)  # its other operand is a constant


def test_a_product_of_activations_has_no_weight(workbench):
    scores = workbench("two-activations").layers[-1]
    assert (scores.weight, scores.weight_shape, scores.weight_elements) == (None, (), 0)
    assert scores.activations == ("q", "t")


MACS = {
    "conv": ("chain", "c1", 4 * 3 * 9 * 64),
    "strided-conv": ("chain", "c3", 6 * 4 * 9 * 9),
    "gemm-transposed": ("chain", "fc", 6 * 4),
    "depthwise": ("grouped", "depthwise", 4 * 9 * 64),
    "grouped-dilated": ("grouped", "groups", 4 * 2 * 9 * 16),
    "conv-transpose": ("transposed", "up", 4 * 4 * 4 * 16),
    "grouped-conv-transpose": ("transposed", "groups", 4 * 2 * 64),
    "conv1d": ("conv1d", "wide", 4 * 3 * 3 * 12),
    "conv3d": ("conv3d", "one", 3 * 2 * 27 * 64),
    "matmul": ("two-activations", "query", 5 * 4 * 6),
    "matmul-of-activations": ("two-activations", "scores", 5 * 6 * 5),
    "constant-on-the-left": ("matmul-variants", "left", 3 * 4 * 5),
    "fixed-batch": ("fixed-batch", "fc", 16),
}


@pytest.mark.parametrize(("model", "layer", "macs"), MACS.values(), ids=MACS)
def test_multiply_accumulates_of_one_sample(workbench, model, layer, macs):
    assert next(found.macs for found in workbench(model).layers if found.name == layer) == macs


def test_only_the_operators_asked_for_are_layers(workbench):
    graph = workbench("chain").graph
    assert [layer.name for layer in find_layers(graph, ["Gemm"])] == ["fc"]
    assert find_layers(graph, ["MatMul"]) == []


@pytest.mark.parametrize("name", MODELS)
def test_the_table_holds_all_there_is_to_a_layer(workbench, name):
    layers = workbench(name).layers
    assert layers_from_table(layer_table(layers)) == layers
    assert layers == find_layers(workbench(name).graph)


ROLES = {
    "Conv": Role.LAYER,
    "MaxPool": Role.MOVER,
    "Relu": Role.MOVER,
    "Add": Role.COMPUTE,
    "Gemm": Role.COMPUTE,  # of a layer operator that is not asked for
    "LSTM": Role.FLOAT,
    "If": Role.FLOAT,
}


@pytest.mark.parametrize("op", ROLES)
def test_role_of_an_operator(op):
    assert role_of(op, "", frozenset(["Conv"])) is ROLES[op]
    assert role_of(op, "com.example", frozenset(["Conv"])) is Role.FLOAT
