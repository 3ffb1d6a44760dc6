"""Weights that make up for what the layers before them lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quant_core.config import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.improvement.layer_stops import layer_stops
from quant_core.improvement.weight_reconstruction import reconstructed_weights
from quant_core.model.sessions import open_nodes
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.quantizer import Quantizer
from quant_core.storage.data import refer_data
from quant_core.storage.tables import content_digest, facts
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import bench

NARROW = Precision.parse("a8w4")


def made_of(name, folder):
    model = MODELS[name]()
    return bench(model, folder, samples(model, count=48))


def rebuilt(made, workers=1, plan=None, **config):
    """What the numbers follow from, and the weights chosen anew: of a plan, or with all layers narrow."""
    recipe = replace(made.recipe, config=QuantizationConfig.model_validate({"wide": "a16w16", **config}))
    data, machine = refer_data(made.feeds, made.machine.cache), Machine(made.machine.cache, workers)
    plan = plan or PrecisionPlan.uniform(made.names, NARROW)
    return recipe, reconstructed_weights(recipe, data, plan.as_dict(), plan.tensor_types(), 5, machine)


def squared_error(made, recipe, tables, plan=None):
    """Of the outputs of the model of a plan, or with all layers narrow."""
    quantizer = Quantizer(made.graph, made.layers, made.calibration, recipe.config, tables)
    writer = PlanWriter(quantizer, folded=True)
    nodes = writer.write(plan or PrecisionPlan.uniform(made.names, NARROW)).nodes
    found = open_nodes(made.graph, nodes, made.graph.outputs, writer.constants)(made.feeds)
    exact = open_nodes(made.graph, made.graph.nodes, made.graph.outputs, {})(made.feeds)
    return sum(float(np.square(exact[name] - found[name]).sum()) for name in exact)


@pytest.mark.parametrize("name", ["chain", "grouped", "residual", "transformer", "gemm-variants"])
def test_the_model_is_nearer_to_the_float_one_and_the_same_for_any_number_of_workers(name, tmp_path):
    made = made_of(name, tmp_path)
    recipe, table = rebuilt(made)
    assert squared_error(made, recipe, [table]) < 0.8 * squared_error(made, recipe, [])
    tried = facts(table)["squared_errors"]
    kept = sorted(table.column("layer").to_pylist())
    assert kept == sorted(layer for layer, (before, after) in tried.items() if after < before)
    assert set(table.column("precision").to_pylist()) == {"a8w4"}
    for row in table.select(["layer", "rounding", "error"]).to_pylist():
        before, after = tried[row["layer"]]
        assert row["rounding"] == "reconstruction" and row["error"] == pytest.approx(after / before)
    assert content_digest(rebuilt(made, workers=3)[1]) == content_digest(table)


@pytest.mark.parametrize("biases", ["int32", "float16", "float32", "small"])
def test_weights_chosen_for_a_mix_are_better_in_it_than_those_chosen_for_one_precision(biases, tmp_path):
    made = made_of("residual", tmp_path)
    mix = PrecisionPlan.uniform(made.names, NARROW).narrowed({made.names[0]: Precision.parse("a16w8")})
    recipe, uniform = rebuilt(made, biases=biases)
    recipe, mixed = rebuilt(made, plan=mix, biases=biases)
    assert set(mixed.column("precision").to_pylist()) == {"a8w4", "a16w8"}
    errors = [squared_error(made, recipe, tables, mix) for tables in ([mixed], [uniform], [])]
    assert errors == sorted(errors)


@pytest.mark.parametrize("config", [{"per_channel": False}, {"block_size": 16}, {"calibrate": "pow2-minmse"}])
def test_scales_that_the_options_fix_stay(config, tmp_path):
    made = made_of("transformer", tmp_path)
    recipe, table = rebuilt(made, **config)
    plain = Quantizer(made.graph, made.layers, made.calibration, recipe.config)
    assert table.num_rows
    for layer, scale in zip(*(table.column(name).to_pylist() for name in ("layer", "scale")), strict=True):
        assert np.array_equal(np.float32(scale), plain.weight(layer, NARROW).qparams.scale.ravel())


def test_weights_for_one_precision_are_not_taken_at_another(tmp_path):
    made = made_of("chain", tmp_path)
    recipe, table = rebuilt(made)
    chosen, plain = (
        Quantizer(made.graph, made.layers, made.calibration, recipe.config, tables) for tables in ([table], [])
    )
    layer, other = table.column("layer")[0].as_py(), Precision.parse("a16w4")
    assert not np.array_equal(chosen.weight(layer, NARROW).codes, plain.weight(layer, NARROW).codes)
    assert np.array_equal(chosen.weight(layer, other).codes, plain.weight(layer, other).codes)


def test_a_weight_that_several_nodes_read_stays(tmp_path):
    made = made_of("shared-weight", tmp_path)
    shared = {layer.name for layer in made.layers if len(layer.nodes) > 1}
    assert shared
    assert not shared & set(facts(rebuilt(made)[1])["squared_errors"])


def test_what_is_added_to_a_layers_output_is_found_behind_a_bias(tmp_path):
    model = build(
        """(float[N,4,8] x) => (float[N,4,8] y) {
            r = Relu(x)  [product] p = MatMul(r, w)  q = Add(p, b)  y = Add(q, r)
        }""",
        {"w": (8, 8), "b": (8,)},
    )
    made = bench(model, tmp_path)
    quantizer = Quantizer(made.graph, made.layers, made.calibration, made.config)
    stops, _ = layer_stops(
        PlanWriter(quantizer, folded=True), made.layers, PrecisionPlan.uniform(made.names, NARROW), widest=64
    )
    assert [stop.added for stop in stops] == ["r"]
