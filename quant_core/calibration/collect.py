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

from quant_core.calibration.data_movement import merged_histograms, moved_tensors, together
from quant_core.calibration.histogram import Histogram, histogram_table
from quant_core.calibration.masked_softmax import is_masked, masked_scores, softmax_scores, without_masked
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import CPU, Session, check_providers, fast_numerics, open_nodes
from quant_core.model.topology import Topology
from quant_core.storage.data import Dataset
from quant_core.storage.references import Reference
from quant_core.storage.tables import with_facts

__all__ = ["calibrate", "observed_tensors"]

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
) -> pa.Table:
    """Histograms (schema CALIBRATION) of the prepared model's tensors over all samples of the data.

    The model runs on ONNX Runtime's execution `providers`; raises InputError for one that is not there, and for a NaN
    in one of the outputs that are `compared` (all). The facts hold `nan_outputs`: the others that have one.

    A tensor without a value, or with an infinite one, has no row: no scale could hold it, and it stays float.
    """
    check_providers(providers)
    graph = prepared_graph(layers, machine.cache)
    dataset = step_data(graph, data, machine.cache)
    tensors = observed_tensors(Topology.of(graph, layers_from_table(layers)))
    others = () if compared is None else tuple(name for name in graph.outputs if name not in compared)
    found, bad = _collect(graph, dataset, tensors, others, batch_size, machine, providers)
    return with_facts(histogram_table(found), nan_outputs=bad) if bad else histogram_table(found)


def observed_tensors(topology: Topology) -> list[str]:
    """Tensors that may carry a type and that a quantized operator reads or writes, in graph order."""
    touched = [name for index in range(len(topology.roles)) for name in topology.touched(index)]
    return [name for name in dict.fromkeys(touched) if name in topology.quantizable]


def _collect(
    graph: FloatGraph,
    data: Dataset,
    tensors: list[str],
    others: Sequence[str],
    batch_size: int | None,
    machine: Machine,
    providers: Sequence[str],
) -> tuple[dict[str, Histogram], list[str]]:
    """Return the histograms of the tensors, and which of the outputs `others` hold a NaN."""
    scores = softmax_scores(graph)
    masked = masked_scores(graph, scores)
    moved = moved_tensors(graph, tensors, apart={*scores, *masked})
    looked_at = [name for name in tensors if name not in moved]
    outputs = tuple(name for name in graph.outputs if name not in others)
    floats = filter(graph.is_float_activation, outputs)  # a recurrent layer's are not looked at for their range
    wanted = [name for name in dict.fromkeys([*looked_at, *floats, *others]) if name not in graph.inputs]
    session = open_nodes(graph, graph.nodes, wanted, {}, fast_numerics(graph), providers=providers)
    watcher().expects("calibrate", data.count)
    counted: dict[str, Histogram | None] = {}
    meanings = _Meanings(scores, masked, _told_nan(graph), outputs, tuple(others))
    of_batch = partial(_batch_histograms, session, looked_at, meanings, data.count)
    every = batches(graph, data, batch_size, memory=machine.memory)
    bad: set[str] = set()
    for batch, found, nan_outputs in ordered_map(of_batch, every, machine.workers):
        bad |= nan_outputs
        for name, histogram in found.items():
            counted[name] = together(counted[name], histogram) if name in counted else histogram
        watcher().advanced("calibrate", batch.count)
    whole = merged_histograms(moved, counted)
    return {name: histogram for name in tensors if (histogram := whole.get(name)) is not None}, sorted(bad)


@dataclass(frozen=True)
class _Meanings:
    """What the values of some tensors are for."""

    scores: Mapping[str, int]
    """Tensors that only Softmax reads, with its axis."""
    masked: Mapping[str, str]
    """Tensors whose values become such scores further on, and those."""
    told_nan: frozenset[str]
    """Tensors that the model asks for NaNs: no type may take those away."""
    outputs: tuple[str, ...]
    """Outputs of the model that may not hold a NaN."""
    others: tuple[str, ...]
    """Its other outputs."""


def _told_nan(graph: FloatGraph) -> frozenset[str]:
    return frozenset(name for node in graph.nodes if node.op_type == "IsNaN" for name in node.input)


def _batch_histograms(
    session: Session, tensors: list[str], meanings: _Meanings, samples: int, batch: Batch
) -> tuple[Batch, dict[str, Histogram | None], set[str]]:
    """The histogram of each tensor that is not empty in a batch, and the other outputs that hold a NaN.

    The batch is one of all the `samples`.
    It is None where a value is infinite.
    NaNs are not counted; a tensor that the model looks for NaNs in has None where it holds one.
    """
    values = {**batch.feeds, **session(batch.feeds)}
    _refuse_nan_outputs(values, tensors, meanings.outputs, batch)
    found: dict[str, Histogram | None] = {}
    for name in tensors:
        if values[name].size:
            array = np.asarray(values[name], np.float32)
            if array.ndim and len(array) == batch.size:
                array = array[: batch.count]  # samples repeated to fill the batch are not counted again
            low, high = float(array.min()), float(array.max())
            if np.isnan(low):
                array = array[~np.isnan(array)]
                low, high = float(array.min(initial=np.inf)), float(array.max(initial=-np.inf))
                found |= {name: None} if name in meanings.told_nan else {}
            if name in found or not array.size:
                continue
            target = meanings.masked.get(name, name)
            if max(-low, high) >= _INFINITE:
                found[name] = None
            elif target in meanings.scores and target in values and is_masked(low):
                found |= _unmasked(name, np.asarray(values[target], np.float32), meanings.scores[target])
            else:
                found[name] = Histogram.within(array, low, high, _stride(array.size, batch.count / samples))
    return batch, found, {name for name in meanings.others if name in values and _has_nan(values[name])}


def _stride(size: int, share: float) -> int:
    """Return how far apart the values are that are binned of an array that holds a share of a tensor's values.

    It has no divisor in common with the number of values, hence none with the length of an axis: all rows, columns and
    channels are looked at alike.
    """
    wanted = int(size / (_ENOUGH * share))
    return next(stride for stride in itertools.count(max(wanted, 1)) if math.gcd(stride, size) == 1)


def _refuse_nan_outputs(
    values: Mapping[str, NDArray[np.generic]], tensors: Sequence[str], outputs: Sequence[str], batch: Batch
) -> None:
    """Raise InputError where a NaN reaches an output, with the tensor that it is first in."""
    if any(_has_nan(values[name]) for name in outputs if name in values):
        first = next(name for name in [*tensors, *outputs] if name in values and _has_nan(values[name]))
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
