"""The spread of activations moved into weights."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.execution.machine import Machine
from quant_core.improvement.migration import Channels, best_factors, migrated_model
from quant_core.model.layers import layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import open_nodes
from quant_core.precision import Precision
from quant_core.storage.data import refer_data
from quant_core.storage.tables import content_digest, facts
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import bench

A8W8 = Precision.parse("a8w8")
SHAPES = {"scale": (16,), "shift": (16,), "w1": (16, 8), "w2": (16, 8), "w3": (8, 3)}


def made(folder, sum_of: str):
    """Two products of one normalised tensor, a channel of which is large; the output is a sum."""
    model = build(
        f"""(float[N,5,16] x) => (float[N,5,3] y) {{
            [norm] n = LayerNormalization<axis=-1>(x, scale, shift)
            [first] a = MatMul(n, w1)  [second] b = MatMul(n, w2)
            c = Tanh(a)  d = Add(c, b)  [last] e = MatMul(d, w3)  {sum_of}
        }}""",
        SHAPES,
    )
    for tensor in model.graph.initializer:
        if tensor.name == "scale":
            scale = np.ones(16, np.float32)
            scale[3] = 80
            tensor.raw_data = scale.tobytes()
    return bench(model, folder, samples(model, count=24))


def outputs(graph, feeds):
    return open_nodes(graph, graph.nodes, graph.outputs, {})(feeds)["y"]


@pytest.mark.parametrize(
    ("sum_of", "folded"),
    [("y = Relu(e)", True), ("m = ReduceMean<axes=[2], keepdims=1>(n)  y = Add(e, m)", False)],
    ids=["norm", "mul"],
)
def test_the_model_computes_what_it_did_and_the_large_channel_is_gone(sum_of, folded, tmp_path):
    before = made(tmp_path, sum_of)
    data, machine = refer_data(before.feeds, before.machine.cache), before.machine
    table = migrated_model(before.layer_table, data, "a8w8", True, 7, machine)
    graph, layers = prepared_graph(table, machine.cache), layers_from_table(table)
    assert set(facts(table)["migrated"]) >= {"n"} and set(facts(table)["migrated_layers"]) >= {"first", "second"}
    assert np.allclose(outputs(graph, before.feeds), outputs(before.graph, before.feeds), rtol=1e-4, atol=1e-4)
    read = next(layer for layer in layers if layer.name == "first").activations[0]
    assert (read == "n") is folded
    assert [layer.name for layer in layers] == before.names
    assert all(graph.nodes[layer.nodes[0]].name == layer.name for layer in layers)
    largest = np.abs(open_nodes(graph, graph.nodes, [read], {})(before.feeds)[read]).max(axis=(0, 1))
    assert largest.max() < 20 * np.median(largest)
    again = migrated_model(before.layer_table, data, "a8w8", True, 7, Machine(machine.cache, 3))
    assert content_digest(again) == content_digest(table)


def test_factors_are_the_least_expected_error_and_none_where_channels_are_alike():
    generator = np.random.default_rng(0)
    weights, values = generator.standard_normal((8, 6)), generator.uniform(-1, 1, (200, 8)).astype(np.float32)
    assert best_factors(weights, Channels.of(values), A8W8, symmetric=True)[1] > 0.7
    values[:, 2] *= 50
    factors, share = best_factors(weights, Channels.of(values), A8W8, symmetric=True)
    assert share < 0.4 and int(factors.argmax()) == 2


def test_a_model_without_such_products_stays(tmp_path):
    chain = bench(MODELS["residual"](), tmp_path)
    data = refer_data(chain.feeds, chain.machine.cache)
    table = migrated_model(chain.layer_table, data, "a8w8", True, None, chain.machine)
    assert facts(table)["migrated"] == {}
    assert facts(table)["prepared"] == facts(chain.layer_table)["prepared"]
