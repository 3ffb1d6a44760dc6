"""Weights and biases chosen with the calibration data in view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quant_core.config import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.model.sessions import open_nodes
from quant_core.numerics import dequantize
from quant_core.precision import DataType, Precision
from quant_core.quantization.quantizer import Quantizer
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.quantization.rounding.unfolding import unfolding_of
from quant_core.quantization.rounding.weight_rounding import rounded_weights
from quant_core.storage.data import refer_data
from quant_core.storage.tables import content_digest
from tests.models import MODELS, samples
from tests.quant_core.workbench import bench, same

WIDE, NARROW = Precision.parse("a16w16"), Precision.parse("a16w4")


@pytest.fixture(params=["chain", "grouped", "transformer", "matmul-variants", "shared-weight"])
def made(request, tmp_path):
    """A model calibrated on more samples than the default, and what rounds it in a given way."""
    model = MODELS[request.param]()
    return bench(model, tmp_path, samples(model, count=40))


def rounded(made, weights="4", workers=1, batch_size=None, alone=False, block=None, **config):
    settings = QuantizationConfig.model_validate({"wide": "a16w16", **config})
    machine = Machine(made.machine.cache, workers)
    return settings, rounded_weights(
        made.layer_table, refer_data(made.feeds, machine.cache), weights, alone, block, settings, batch_size, machine
    )


def quantizer(made, weights="4", **config) -> Quantizer:
    settings, table = rounded(made, weights, **config)
    return Quantizer(made.graph, made.layers, made.calibration, settings, [table])


def output_error(made, name: str, found: Quantizer, precision: Precision = NARROW) -> float:
    """Sum of squares of what rounding one weight does to what its layer puts out, in float otherwise."""
    layer = next(layer for layer in made.layers if layer.name == name)
    weight = found.weight(name, precision)
    rounded_values = dequantize(weight.codes, weight.qparams, weight.axis)
    total = 0.0
    for node in (made.graph.nodes[index] for index in layer.nodes):
        read = [name for name in node.input if name not in made.graph.initializers]
        computed = sorted({*made.graph.outputs, *read} - {*made.graph.inputs})
        feeds = {**made.feeds, **open_nodes(made.graph, made.graph.nodes, computed, {})(made.feeds)}
        exact, off = (
            open_nodes(made.graph, [node], node.output, constants)(feeds)[node.output[0]]
            for constants in ({}, {layer.weight: rounded_values})
        )
        total += float(np.square(exact - off).sum())
    return total


def errors_of_layers(made, per_channel: bool) -> list[tuple[float, float]]:
    """Output errors of each weighted layer: weights rounded to nearest, and for the output."""
    plain = Quantizer(made.graph, made.layers, made.calibration, QuantizationConfig(wide=WIDE, per_channel=per_channel))
    chosen = quantizer(made, per_channel=per_channel)
    names = [layer.name for layer in made.layers if layer.weight is not None]
    return [(output_error(made, name, plain), output_error(made, name, chosen)) for name in names]


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
def test_what_layers_put_out_is_never_farther(made, per_channel):
    assert all(new <= old * 1.001 for old, new in errors_of_layers(made, per_channel))


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("model", ["chain", "grouped", "transformer", "shared-weight"])
def test_what_layers_put_out_comes_nearer(model, per_channel, tmp_path):
    found = bench(MODELS[model](), tmp_path, samples(MODELS[model](), count=40))
    assert any(new < 0.75 * old for old, new in errors_of_layers(found, per_channel))


def test_what_is_measured_is_what_is_shipped(made):
    made.__dict__["quantizer"] = quantizer(made, correct_bias=True)
    plan = made.plan(*made.names, precision="a16w4")
    wide, probed = made.probe([plan])
    assert same(made.simulate(plan), made.ship(plan))
    assert same(made.simulate(plan), probed)


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_change_nothing(made, workers):
    assert content_digest(rounded(made)[1]) == content_digest(rounded(made, workers=workers)[1])


def test_the_mean_of_a_layers_output_is_kept(workbench):
    made = workbench("chain")
    settings, table = rounded(made, round_weights="nearest", correct_bias=True)
    corrected = Quantizer(made.graph, made.layers, made.calibration, settings, [table])
    plain = Quantizer(made.graph, made.layers, made.calibration, settings)
    first, name = made.layers[0], made.layers[0].name
    assert (corrected.weight(name, NARROW).codes == plain.weight(name, NARROW).codes).all()  # rounded to nearest
    padded = np.pad(made.feeds["x"], [(0, 0), (0, 0), (1, 1), (1, 1)])
    mean = np.array(
        [[[padded[:, c, i : i + 8, j : j + 8].mean() for j in range(3)] for i in range(3)] for c in range(3)]
    )
    weight = plain.weight(name, NARROW)
    lost = ((made.graph.constant(first.weight) - dequantize(weight.codes, weight.qparams, weight.axis)) * mean).sum(
        (1, 2, 3)
    )
    shift = corrected.bias(0, name, NARROW).codes * corrected.bias(0, name, NARROW).qparams.scale
    shift = shift - plain.bias(0, name, NARROW).codes * plain.bias(0, name, NARROW).qparams.scale
    np.testing.assert_allclose(shift, lost, atol=0.05 * np.abs(lost).max())
    settings, table = rounded(made, "8", alone=True, round_weights="nearest", correct_bias=True)
    beside_floats, precision = Quantizer(made.graph, made.layers, made.calibration, settings, [table]), "float32w8"
    bias = beside_floats.corrected_bias(0, name, Precision.parse(precision))
    shift = beside_floats.weight(name, Precision.parse(precision)).bias_shift
    assert shift.any()
    np.testing.assert_allclose(bias - made.graph.constant("b1"), shift, atol=1e-6)


def test_what_cannot_be_unfolded_is_rounded_to_nearest(workbench):
    made = workbench("transposed")
    names = rounded(made, round_weights="gptq")[1].column("layer").to_pylist()
    assert names == [layer.name for layer in made.layers if layer.op != "ConvTranspose"]
    assert set(rounded(made)[1].column("layer").to_pylist()) == set(made.names)  # there is a grid to choose


@pytest.mark.parametrize(
    "settings",
    [{}, {"per_channel": False}, {"block_size": 16, "alone": True}, {"weights": "8", "block": 16, "alone": True}],
    ids=["a16w4", "a16w4-per-tensor", "float32w4-blocks", "float32w8b16"],
)
def test_the_way_of_least_error_is_chosen_for_each_layer(made, settings):
    """Of columns that were looked at: all of them, in models as small as these."""
    alone, kind = settings.get("alone", False), DataType.INT8 if "weights" in settings else DataType.INT4
    precision = Precision(DataType.FLOAT32 if alone else DataType.INT16, kind, settings.get("block"))
    ways = ("nearest", "gptq", *(["hqq"] if kind is DataType.INT4 else []), "auto")
    found = {way: quantizer(made, round_weights=way, **settings) for way in ways}
    for layer in made.layers:
        if unfolding_of(made.graph, layer) is not None:
            errors = {way: output_error(made, layer.name, one, precision) for way, one in found.items()}
            assert errors["auto"] <= min(errors.values()) * (1 + 1e-4), (layer.name, errors)
            zero_points = found["auto"].weight(layer.name, precision).qparams.zero_point
            assert alone or not zero_points.any()


def test_steps_of_a_run_share_one_quantizer(workbench):
    made = workbench("chain")
    settings, table = rounded(made)
    plain = QuantizationRecipe(made.layer_table, made.calibration, settings)
    found = quantizer_of(replace(plain, weights=(table,)), made.machine)
    assert found is quantizer_of(replace(plain, weights=(table,)), made.machine)
    assert found is not quantizer_of(plain, made.machine)


def test_a_layer_whose_bias_needs_a_larger_scale_is_rounded_to_nearest(tmp_path):
    from tests.models import build

    model = build(
        "(float[N,4] x) => (float[N,4] y) { [m] y = Gemm(x, w, b) }",
        {"w": np.eye(4, dtype=np.float32) * 1e-3, "b": np.float32([1e9, 0, 0, 0])},
    )
    made = bench(model, tmp_path)
    settings, table = rounded(made, per_channel=False)
    chosen = Quantizer(made.graph, made.layers, made.calibration, settings, [table])
    plain = Quantizer(made.graph, made.layers, made.calibration, settings)
    assert (chosen.weight("m", NARROW).codes == plain.weight("m", NARROW).codes).all()
    assert chosen.weight("m", NARROW).qparams.scale > np.array(table.column("scale")[0].as_py())


def test_operators_without_a_weight_may_be_layers_beside(tmp_path):
    made = bench(MODELS["residual"](), tmp_path, layer_ops=("Conv", "Sigmoid"))
    found = [unfolding_of(made.graph, layer) for layer in made.layers]
    assert [unfolding is None for unfolding in found] == [layer.weight is None for layer in made.layers]
    assert found.count(None) == 1
