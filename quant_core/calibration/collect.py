"""One pass of the float model over the calibration data: a histogram of every tensor that may be quantized."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.calibration.data_movement import merged_histograms, together
from quant_core.calibration.float_pass import KeptOutputs, ObservedModel
from quant_core.calibration.histogram import Histogram, histogram_table
from quant_core.calibration.masked_softmax import is_masked, without_masked
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.data.sample_outputs import Outputs, per_sample
from quant_core.model.graph import FloatGraph
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import CPU, check_providers
from quant_core.storage.references import Reference
from quant_core.storage.tables import with_facts

__all__ = ["calibrate"]

_INFINITE = 1e30
"""From this magnitude on a value only says `nothing`: attention masks with -inf, or with the lowest float32."""

_ENOUGH = 1 << 22
"""Values that are binned of each tensor. The extremes are those of all its values, however many there are; what one in
100,000 exceeds, where `percentile` cuts, is then known from forty."""


def calibrate(
    layers: pa.Table,
    data: Reference,
    batch_size: int | None,
    machine: Machine,
    providers: Sequence[str] = CPU,
    compared: Sequence[str] | None = None,
    keeps_outputs: bool = False,
) -> pa.Table:
    """Return histograms (schema CALIBRATION) of the prepared model's tensors over all samples of the data.

    A tensor without a value, or with an infinite one, has no row: no scale could hold it, and it stays float. The facts
    hold `nan_outputs`: the outputs that are not compared and hold a NaN.

    Args:
        layers: layer table of the prepared model (schema LAYERS).
        data: the calibration data.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads, cache and memory.
        providers: ONNX Runtime's execution providers.
        compared: the outputs that are compared; None: all.
        keeps_outputs: whether these are put into the cache on the way, for `float_outputs` of the same data.

    Raises InputError for a provider that is not there, and for a NaN in an output that is compared.

    """
    check_providers(providers)
    graph = prepared_graph(layers, machine.cache)
    dataset = step_data(graph, data, machine.cache)
    model = ObservedModel.opened(graph, layers, compared, providers)
    kept = KeptOutputs(layers, data, model.compared, batch_size, machine.cache) if keeps_outputs else None
    watcher().expects("calibrate", dataset.count)
    counted: dict[str, Histogram | None] = {}
    bad: set[str] = set()
    collected = partial(_of_batch, model, _told_nan(graph), dataset.count, keeps_outputs)
    every = batches(graph, dataset, batch_size, memory=machine.memory)
    for seen in ordered_map(collected, every, machine.workers):
        bad |= seen.bad
        for name, histogram in seen.histograms.items():
            counted[name] = together(counted[name], histogram) if name in counted else histogram
        if kept is not None:
            kept.add(seen.rows, seen.outputs)
        watcher().advanced("calibrate", len(seen.rows))
    if kept is not None:
        kept.write()
    whole = merged_histograms(model.moved, counted)
    table = histogram_table({name: found for name in model.tensors if (found := whole.get(name)) is not None})
    return with_facts(table, nan_outputs=sorted(bad)) if bad else table


def _told_nan(graph: FloatGraph) -> frozenset[str]:
    """Return the tensors that the model asks for NaNs: no type may take those away."""
    return frozenset(name for node in graph.nodes if node.op_type == "IsNaN" for name in node.input)


@dataclass(frozen=True)
class _OfBatch:
    """What is collected of a batch."""

    rows: NDArray[np.intp]
    """Numbers of its samples."""
    histograms: Mapping[str, Histogram | None]
    """Of each tensor that is not empty; None where a value is infinite, or a NaN that the model asks for."""
    bad: set[str]
    """Outputs that hold a NaN, of those that are not compared."""
    outputs: Outputs
    """What is compared, one entry a sample; empty where it is not kept."""


def _of_batch(
    model: ObservedModel, told_nan: frozenset[str], samples: int, keeps_outputs: bool, batch: Batch
) -> _OfBatch:
    """Run a batch of all the `samples`, and collect what it shows."""
    values = {**batch.feeds, **model.session(batch.feeds)}
    _refuse_nan_outputs(values, model, batch)
    found: dict[str, Histogram | None] = {}
    for name in model.looked_at:
        if values[name].size:
            found |= _histogram(name, values, model, batch, batch.count / samples, name in told_nan)
    bad = {name for name in model.others if name in values and _has_nan(values[name])}
    outputs = {name: per_sample(values[name], name, batch) for name in model.compared} if keeps_outputs else {}
    return _OfBatch(batch.rows, found, bad, outputs)


def _histogram(
    name: str, values: Outputs, model: ObservedModel, batch: Batch, share: float, is_told_nan: bool
) -> dict[str, Histogram | None]:
    """Return the histogram of a tensor by its name; empty where nothing is counted.

    Args:
        name: the tensor.
        values: what the batch gives, by tensor.
        model: which tensors hold scores that a mask takes part in.
        batch: the batch.
        share: its part of all samples.
        is_told_nan: whether the model asks the tensor for NaNs, which are otherwise not counted.

    """
    array = np.asarray(values[name], np.float32)
    if array.ndim and len(array) == batch.size:
        array = array[: batch.count]  # samples repeated to fill the batch are not counted again
    low, high = float(array.min()), float(array.max())
    if np.isnan(low):
        if is_told_nan:
            return {name: None}
        array = array[~np.isnan(array)]
        low, high = float(array.min(initial=np.inf)), float(array.max(initial=-np.inf))
    if not array.size:
        return {}
    if max(-low, high) >= _INFINITE:
        return {name: None}
    target = model.masked.get(name, name)
    if target in model.scores and target in values and is_masked(low):
        return dict(_unmasked(name, np.asarray(values[target], np.float32), model.scores[target]))
    return {name: Histogram.within(array, low, high, _stride(array.size, share))}


def _stride(size: int, share: float) -> int:
    """Return how far apart the values are that are binned of an array that holds a share of a tensor's values.

    It has no divisor in common with the number of values, hence none with the length of an axis: all rows, columns and
    channels are looked at alike.
    """
    wanted = int(size / (_ENOUGH * share))
    return next(stride for stride in itertools.count(max(wanted, 1)) if math.gcd(stride, size) == 1)


def _refuse_nan_outputs(values: Mapping[str, NDArray[np.generic]], model: ObservedModel, batch: Batch) -> None:
    """Raise InputError where a NaN reaches an output that is compared, with the tensor that it is first in."""
    if any(_has_nan(values[name]) for name in model.compared if name in values):
        listed = (*model.looked_at, *model.compared)
        first = next(name for name in listed if name in values and _has_nan(values[name]))
        raise InputError(
            f"the float model computes a NaN in tensor {first!r} "
            f"(samples {batch.rows[0]} to {batch.rows[-1]} of the calibration data)"
        )


def _has_nan(value: object) -> bool:
    """Return whether an array holds a NaN; a sequence or a map, which is never compared, is not looked into."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and bool(np.isnan(value).any())


def _unmasked(name: str, scores: NDArray[np.float32], axis: int) -> dict[str, Histogram]:
    kept = without_masked(scores, axis)
    return {name: Histogram.of(kept)} if kept.size else {}
