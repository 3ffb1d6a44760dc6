"""Chooses the weights of all layers at one precision so that each makes up for what those before it have lost.

The float and the quantized model are walked through side by side (see `calibrated_walk`). Of each layer the moments are
collected of what it reads in the quantized model and what it puts out in the float one; its weight is chosen by them
(see `reconstruction`) and takes effect for the layers behind. Where an Add alone reads what the layer puts out, the
layer also makes up for what the Add's other operand has lost.

A part of the calibration samples is held out: a layer takes its new weight only if that is better on those. They also
choose how near it is held to the float weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from quant_core.config.quantization import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.improvement.calibrated_walk import Arrays, CalibratedWalk, Stop, live_elements
from quant_core.improvement.layer_stops import LayerStop, layer_stops
from quant_core.improvement.reconstruction import Moments, Rows, reconstructed
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.data.padding import Padding
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.numerics import QParams, spread_along
from quant_core.precision import DataType, Precision, PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.quantizer import Quantizer
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.quantization.rounding.unfolding import Unfolding
from quant_core.quantization.rounding.weight_rounding import COLUMNS, FEWEST, ONE_AT_A_TIME, WIDEST
from quant_core.quantization.weights import Rounding, Weight, WeightKind, weights_table
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.sampling import visit_order
from quant_core.storage.data import Dataset
from quant_core.storage.references import Reference
from quant_core.storage.schemas import WEIGHTS
from quant_core.storage.tables import with_facts

__all__ = ["has_free_codes", "held_out_numbers", "held_out_samples", "reconstructed_weights"]

_KEPT_BYTES, _FEWEST_SAMPLES = 512 << 20, 32
"""What the walk may keep of both models, and samples that it takes whatever they take."""
_HELD_OUT = 4
"""One of so many calibration samples is held out."""
_DAMPINGS = (0.01, 0.1, 0.3)
"""What is tried (see `reconstructed`): the fewer columns there are for a layer's width, the more is best."""


def has_free_codes(precision: Precision, config: QuantizationConfig) -> bool:
    """Return whether weights are codes of up to 8 bits, none of which the runtime forbids for the sake of its sums."""
    if precision.weights.is_float or precision.weights.bits > 8:
        return False
    in_bytes = precision.activations.bits == 8 and precision.weights is DataType.INT8
    return not (in_bytes and config.limits_byte_sums and profile_of(config.runtime).keeps_byte_sums_in_range)


def held_out_samples(count: int) -> int:
    """Return how many of the calibration samples are held out: those that come first in the order of visits."""
    return max(count // _HELD_OUT, 1)


def held_out_numbers(count: int) -> tuple[int, ...]:
    """Return the numbers of the calibration samples that are held out."""
    return tuple(visit_order(count, 0, held_out_samples(count)).tolist())


def reconstructed_weights(
    recipe: QuantizationRecipe,
    data: Reference,
    plan: Mapping[str, str],
    tensors: Mapping[str, str],
    batch_size: int | None,
    machine: Machine,
) -> pa.Table:
    """Choose weights (schema WEIGHTS) for the model of a plan, on the calibration data.

    Only layers that are better for it on held-out samples have a row. The facts hold `squared_errors`: for each layer
    that was tried the error of its output on those samples, with the weight it had and with the new one.

    Args:
        recipe: what the numbers of the model follow from.
        data: the calibration data.
        plan: the precision of each layer, by name.
        tensors: types of single tensors, by name.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads, cache and memory.

    """
    graph = prepared_graph(recipe.layers, machine.cache)
    # What the pairs say, whatever a runtime makes of them: its rules for the form of weights have no part in this.
    config = recipe.config.model_copy(update={"runtime": "reference"})
    layers = layers_from_table(recipe.layers)
    quantizer = Quantizer(graph, layers, recipe.calibration, config, recipe.weights)
    writer = PlanWriter(quantizer, folded=True)
    stops, nodes = layer_stops(writer, layers, PrecisionPlan.from_dict(plan, tensors), WIDEST)
    stops = [stop for stop in stops if has_free_codes(stop.precision, recipe.config)]
    data_set = step_data(graph, data, machine.cache)
    padding = Padding.of(graph, data_set)
    held_out, parts = _batches(graph, data_set, [stop.stop for stop in stops], batch_size, machine)
    watcher().expects("reconstruct", len(stops))
    chosen: dict[Precision, dict[tuple[str, str], Weight]] = {}
    errors: dict[str, tuple[float, float]] = {}
    walk = CalibratedWalk(graph, nodes, writer.constants, [stop.stop for stop in stops], parts, machine.workers)
    # What a product of matrices adds up to depends on the number of its threads, a setting of the whole process.
    with ONE_AT_A_TIME, threadpool_limits(1, user_api="blas"):
        for stop in stops:
            found = ordered_map(partial(_moments, graph, stop, parts, padding), walk.at(stop.stop), machine.workers)
            fitted, checked = _summed(found, held_out)
            weight, errors[stop.name] = _improved(quantizer, stop, fitted, checked)
            if weight is not None:
                chosen.setdefault(stop.precision, {})[stop.name, stop.unfolding.layer.weights[0]] = weight
                stop.put_into(writer)
            watcher().advanced("reconstruct", 1)
    tables = [weights_table(weights, WeightKind.of(one), one) for one, weights in chosen.items()]
    return with_facts(pa.concat_tables([WEIGHTS.empty_table(), *tables]), squared_errors=errors)


def _batches(
    graph: FloatGraph, data: Dataset, stops: Sequence[Stop], batch_size: int | None, machine: Machine
) -> tuple[list[bool], list[Batch]]:
    """Return batches of held-out samples, then of others, and which are held out; as many as the walk may keep."""
    a_sample = 2 * 4 * live_elements(graph, stops) * math.ceil(data.count / data.samples)
    count = min(data.samples, max(_KEPT_BYTES // a_sample, _FEWEST_SAMPLES))
    held_out = held_out_samples(data.samples)
    sides = [
        list(batches(graph, data, batch_size, data.rows_of(samples), machine.memory))
        for samples in (
            visit_order(data.samples, 0, min(held_out, held_out_samples(count))),
            visit_order(data.samples, held_out, held_out + count - held_out_samples(count)),
        )
    ]
    return [number == 0 for number, side in enumerate(sides) for _ in side], [*sides[0], *sides[1]]


def _moments(
    graph: FloatGraph, stop: LayerStop, parts: Sequence[Batch], padding: Padding, item: tuple[Batch, Arrays, Arrays]
) -> list[Moments]:
    """Moments of a batch, one set a group of the layer."""
    batch, quantized, exact = item
    node, unfolding = graph.nodes[stop.index], stop.unfolding
    wanted = max(COLUMNS * unfolding.width, FEWEST)
    share = math.ceil(wanted * batch.count / sum(part.count for part in parts))
    output = np.asarray(exact[node.output[0]], np.float32)
    if stop.added is not None:
        output = output + np.subtract(exact[stop.added], quantized[stop.added], dtype=np.float32)
    inputs = np.asarray(quantized[stop.reads], np.float32)
    inputs, output = (array[: batch.count] if len(array) == batch.size else array for array in (inputs, output))
    real = padding.real_places(batch)
    columns, results = unfolding.columns(node, inputs, share, real), unfolding.results(node, output, share, real)
    return [_moments_of(read, written) for read, written in zip(columns, results, strict=True)]


def _moments_of(columns: NDArray[np.float32], results: NDArray[np.float32]) -> Moments:
    """Moments of columns [columns, width] and results [columns, outputs]."""
    return Moments(
        inputs=(columns.T @ columns).astype(np.float64),
        outputs=(results.T @ columns).astype(np.float64),
        input_totals=columns.sum(axis=0, dtype=np.float64),
        output_totals=results.sum(axis=0, dtype=np.float64),
        output_power=float(np.square(results, dtype=np.float64).sum()),
        count=len(columns),
    )


def _summed(found: Iterable[list[Moments]], held_out: Sequence[bool]) -> tuple[list[Moments], list[Moments]]:
    """Moments of the samples to fit, and of those held out, by group of the layer."""
    sides: dict[bool, list[Moments]] = {}
    for moments, apart in zip(found, held_out, strict=True):
        known = sides.get(apart)
        sides[apart] = moments if known is None else [a + b for a, b in zip(known, moments, strict=True)]
    return sides.get(False, sides[True]), sides[True]


def _improved(
    quantizer: Quantizer, stop: LayerStop, fitted: list[Moments], checked: list[Moments]
) -> tuple[Weight | None, tuple[float, float]]:
    """The new weight, which the quantizer takes, or None where it is no better; the squared errors before and after."""
    weight, unfolding = quantizer.weight(stop.name, stop.precision), stop.unfolding
    old, biases = _rows_of(quantizer, stop, weight), _biases(quantizer, stop)
    new = _best_rows(quantizer, stop, weight, old, fitted, checked)
    free_bias = stop.bias is not None
    errors = _squared_error(old, checked), _squared_error(new, checked)
    if not errors[1] < errors[0]:
        return None, errors
    shift = np.concatenate([rows.bias for rows in new]) - biases.ravel() if free_bias else np.zeros(())
    chosen = replace(_folded(new, weight, unfolding, shift), rounding=Rounding("reconstruction", errors[1] / errors[0]))
    quantizer.choose_weight(stop.name, stop.precision, chosen)
    return (chosen if quantizer.weight(stop.name, stop.precision) is chosen else None), errors


def _best_rows(
    quantizer: Quantizer,
    stop: LayerStop,
    weight: Weight,
    old: list[Rows],
    fitted: list[Moments],
    checked: list[Moments],
) -> list[Rows]:
    """Return the rows that are held as near to the float weight as is best on held-out samples.

    Args:
        quantizer: what the layer's float weight and bias are of.
        stop: the layer.
        weight: its weight by now.
        old: that as rows, by group of the layer.
        fitted: moments of the samples to fit, by group.
        checked: those of the samples held out.

    """
    unfolding, config = stop.unfolding, quantizer.config
    values = unfolding.rows(np.asarray(quantizer.graph.constant(str(unfolding.layer.weight)), np.float32))
    is_symmetric = not weight.qparams.zero_point.any()
    free_scales = is_symmetric and _has_scale_a_row(weight, unfolding) and not config.has_power_of_two_scales
    groups = list(zip(values, _biases(quantizer, stop), fitted, old, strict=True))
    best, least = old, math.inf
    for damping in _DAMPINGS:
        new = [
            reconstructed(own, bias, moments, rows.qparams, free_scales, stop.bias is not None, damping)
            for own, bias, moments, rows in groups
        ]
        error = _squared_error(new, checked)
        if not error < least:
            break
        best, least = new, error
    return best


def _biases(quantizer: Quantizer, stop: LayerStop) -> NDArray[np.float64]:
    """The float bias of a layer, [groups, outputs of a group]; zeros without one."""
    node = quantizer.graph.nodes[stop.index]
    has_bias = len(node.input) > 2 and node.input[2] in quantizer.graph.initializers
    values = quantizer.graph.constant(node.input[2]) if has_bias else np.zeros(1)
    spread = np.broadcast_to(np.asarray(values, np.float64).ravel(), stop.unfolding.outputs)
    return spread.reshape(stop.unfolding.groups, -1)


def _rows_of(quantizer: Quantizer, stop: LayerStop, weight: Weight) -> list[Rows]:
    """A weight as rows, by group of the layer."""
    unfolding, shape = stop.unfolding, stop.unfolding.layer.weight_shape
    scale, zero_point = (
        unfolding.rows(np.broadcast_to(spread_along(part, weight.qparams, weight.axis, shape), shape))
        for part in (weight.qparams.scale, weight.qparams.zero_point)
    )
    biases = _biases(quantizer, stop)
    if weight.bias_shift.ndim and stop.bias is not None:
        biases = biases + weight.bias_shift.reshape(biases.shape)
    codes, dtype = unfolding.rows(weight.codes).astype(np.float64), weight.qparams.dtype
    return [
        Rows(own, QParams(dtype, *steps), bias)
        for own, *steps, bias in zip(codes, scale, zero_point, biases, strict=True)
    ]


def _folded(rows: Sequence[Rows], before: Weight, unfolding: Unfolding, shift: NDArray[np.float64]) -> Weight:
    """The weight that rows, by group of the layer, are of."""
    qparams = before.qparams
    if _has_scale_a_row(before, unfolding):
        qparams = replace(qparams, scale=np.concatenate([one.qparams.scale[:, 0] for one in rows]))
    codes = unfolding.folded(np.stack([one.codes for one in rows])).astype(qparams.dtype.numpy_type)
    return Weight(codes, qparams, before.axis, shift)


def _squared_error(rows: Sequence[Rows], moments: Sequence[Moments]) -> float:
    return sum(sums.squared_error(one.values, one.bias) for one, sums in zip(rows, moments, strict=True))


def _has_scale_a_row(weight: Weight, unfolding: Unfolding) -> bool:
    return weight.qparams.block is None and weight.qparams.scale.shape == (unfolding.outputs,)
