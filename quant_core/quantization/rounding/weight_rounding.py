"""Chooses the codes of weights, and what biases must make up for, with the calibration data in view.

One pass of the float model collects, for each layer, the second moments and the mean of its inputs (as columns of
a product, see `unfolding`), from a sample of them that is large enough for their number, without those of padding.
Layers are taken a group at a time, so that what is in memory is bounded by the widest layer, not by the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from quant_core.config.quantization import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.data.padding import Padding
from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import Session, open_nodes
from quant_core.precision import DataType
from quant_core.quantization.rounding.unfolding import Unfolding, unfolding_of
from quant_core.quantization.rounding.weight_candidates import nearest_weights, rounding_error, second_order_weight
from quant_core.quantization.weights import Weight, WeightKind, weights_table
from quant_core.storage.data import Dataset
from quant_core.storage.references import Reference
from quant_core.storage.tables import with_facts

__all__ = ["COLUMNS", "FEWEST", "ONE_AT_A_TIME", "WIDEST", "rounded_weights"]

COLUMNS, FEWEST = 32, 4096
"""Columns that are looked at: so many times the layer's width, and at least so many. More give no better codes."""
_GROUP_BYTES = 64 << 20
"""Second moments collected in one pass."""
WIDEST = 6144
"""Layers of more inputs are rounded to nearest: their moments alone would take more than 300 MB."""
ONE_AT_A_TIME = Lock()
"""Held by who has set the threads of matrix products, a setting of the whole process."""


@dataclass(frozen=True)
class _Data:
    """What a model is run on."""

    graph: FloatGraph
    """The model."""
    dataset: Dataset
    """The calibration data."""
    padding: Padding
    """Which of its places are padding."""
    left_out: tuple[int, ...]
    """Numbers of the samples that are not looked at."""
    batch_size: int | None
    """Samples of a forward pass."""

    @property
    def rows(self) -> NDArray[np.intp]:
        """Numbers of the entries that are looked at."""
        return self.dataset.rows_of(np.setdiff1d(np.arange(self.dataset.samples), self.left_out))


@dataclass(frozen=True)
class _Inputs:
    """What is known of a layer's inputs: sums over columns, one set a group of the layer."""

    moments: NDArray[np.float64]
    """Sums of input x input, shaped [groups, width, width]."""
    total: NDArray[np.float64]
    """Sums of inputs, shaped [groups, width]."""
    count: int
    """Columns."""

    def __add__(self, other: _Inputs) -> _Inputs:
        return _Inputs(self.moments + other.moments, self.total + other.total, self.count + other.count)


def rounded_weights(
    layers: pa.Table,
    data: Reference,
    weights: str,
    alone: bool,
    block: int | None,
    config: QuantizationConfig,
    batch_size: int | None,
    machine: Machine,
    left_out: tuple[int, ...] = (),
) -> pa.Table:
    """Weights in the type with the code `weights` (schema WEIGHTS), chosen on the calibration data.

    A layer that is no product with a weight on the right (a recurrent one), or is too wide, is rounded to nearest, on
    the grid of least error of the weight itself; it has no row where there is but one grid. The facts hold `columns`:
    for each layer rounded by its output how many columns were looked at, and its width.

    Args:
        layers: Layers of the prepared model (schema LAYERS).
        data: The calibration data.
        weights: Code of the type, as in a precision: `4` for int4.
        alone: Whether the weights are those of layers that read floats.
        block: How many inputs share a scale, as the precision says; None: as `config` does.
        config: How numbers are chosen.
        batch_size: Samples of a forward pass; by default as many as keep memory small.
        machine: Where this runs.
        left_out: Numbers of the samples that are not looked at.

    """
    kind = WeightKind(next(kind for kind in DataType if kind.code == weights), alone, block)
    graph = prepared_graph(layers, machine.cache)
    dataset = step_data(graph, data, machine.cache)
    listed = [layer for layer in layers_from_table(layers) if layer.weights]
    unfolded = [unfolding_of(graph, layer) for layer in listed]
    rounds_by_output = config.rounds_by_output(kind.dtype, kind.alone)
    if not rounds_by_output and not config.correct_bias:
        unfolded = []
    wanted = [unfolding for unfolding in unfolded if unfolding is not None and unfolding.width <= WIDEST]
    by_output = {unfolding.layer.name for unfolding in wanted}
    others = [layer for layer in listed if layer.name not in by_output] if config.fits_grids(kind.dtype) else []
    chosen = {
        (layer.name, weight): _chosen_alone(graph, kind, config, layer, weight)
        for layer in others
        for weight in layer.weights
    }
    seen = _Data(graph, dataset, Padding.of(graph, dataset) if wanted else Padding(None), left_out, batch_size)
    watcher().expects("round", len(wanted))
    columns: dict[str, tuple[int, int]] = {}
    # What a product of matrices adds up to depends on the number of its threads, a setting of the whole process.
    with ONE_AT_A_TIME, threadpool_limits(1, user_api="blas"):
        for group in _groups(wanted):
            inputs = _collected(seen, group, machine)
            columns |= {one.layer.name: (sums.count, one.width) for one, sums in zip(group, inputs, strict=True)}
            pairs = zip(group, inputs, strict=True)
            for layer, weight in ordered_map(partial(_chosen, graph, kind, config), pairs, machine.workers):
                chosen[layer.name, layer.weights[0]] = weight
                watcher().advanced("round", 1)
    return with_facts(weights_table(chosen, kind), columns=columns if rounds_by_output else {})


def _groups(unfolded: Sequence[Unfolding]) -> Iterator[list[Unfolding]]:
    """Consecutive layers whose moments fit in memory together."""
    group: list[Unfolding] = []
    held = 0
    for unfolding in unfolded:
        size = 8 * unfolding.groups * unfolding.width**2
        if group and held + size > _GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(unfolding)
        held += size
    if group:
        yield group


def _collected(data: _Data, group: Sequence[Unfolding], machine: Machine) -> list[_Inputs]:
    graph = data.graph
    read = dict.fromkeys(graph.nodes[index].input[0] for unfolding in group for index in unfolding.layer.nodes)
    computed = [name for name in read if name not in graph.inputs]
    session = open_nodes(graph, _nodes_for(graph, computed), computed, {}) if computed else None
    summed: list[_Inputs] | None = None
    rows = data.rows
    every = batches(graph, data.dataset, data.batch_size, rows, machine.memory)
    for found in ordered_map(partial(_of_batch, data, session, group, len(rows)), every, machine.workers):
        summed = found if summed is None else [one + other for one, other in zip(summed, found, strict=True)]
    assert summed is not None  # data sets are never empty
    return summed


def _nodes_for(graph: FloatGraph, names: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that it takes to compute some tensors, in graph order."""
    wanted, found = set(names), []
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted |= {*node.input, *outer_names(node)}
    return found[::-1]


def _of_batch(
    data: _Data, session: Session | None, group: Sequence[Unfolding], count: int, batch: Batch
) -> list[_Inputs]:
    real = data.padding.real_places(batch)
    values = {**batch.feeds, **(session(batch.feeds) if session else {})}
    found = []
    for unfolding in group:
        columns = max(COLUMNS * unfolding.width, FEWEST)
        share = math.ceil(columns * batch.count / count / len(unfolding.layer.nodes))
        parts = []
        for node in (data.graph.nodes[index] for index in unfolding.layer.nodes):
            array = np.asarray(values[node.input[0]], np.float32)
            array = (
                array[: batch.count] if len(array) == batch.size else array
            )  # without samples that only fill the batch
            parts.append(unfolding.columns(node, array, share, real))
        found.append(_summed(np.concatenate(parts, axis=1)))
    return found


def _summed(columns: NDArray[np.float32]) -> _Inputs:
    """Sums over columns, shaped [groups, columns, width]."""
    moments = np.matmul(columns.transpose(0, 2, 1), columns).astype(np.float64)
    return _Inputs(moments, columns.sum(axis=1, dtype=np.float64), columns.shape[1])


def _chosen(
    graph: FloatGraph, kind: WeightKind, config: QuantizationConfig, pair: tuple[Unfolding, _Inputs]
) -> tuple[Layer, Weight]:
    """A layer and its weight."""
    unfolding, inputs = pair
    values = np.asarray(graph.constant(unfolding.layer.weights[0]), np.float32)
    candidates = list(nearest_weights(graph, unfolding.layer, values, kind, config))
    if config.rounds_by_output(kind.dtype, kind.alone) and np.isfinite(inputs.moments).all():
        candidates += [second_order_weight(unfolding, values, one, inputs.moments) for one in candidates]
        weight = _best(candidates, [_output_error(unfolding, values, one, inputs.moments) for one in candidates])
    else:
        weight = candidates[0]
    if config.correct_bias:
        weight = replace(weight, bias_shift=_lost(unfolding, values, weight, inputs))
    return unfolding.layer, weight


def _chosen_alone(graph: FloatGraph, kind: WeightKind, config: QuantizationConfig, layer: Layer, name: str) -> Weight:
    """A weight of a layer that is no product of matrices, by the error of the weight itself."""
    values = np.asarray(graph.constant(name), np.float32)
    candidates = list(nearest_weights(graph, layer, values, kind, config))
    return _best(candidates, [float(np.square(rounding_error(values, one)).sum()) for one in candidates])


def _best(candidates: Sequence[Weight], errors: Sequence[float]) -> Weight:
    """Return the weight of least error, with what that is of the first one's."""
    best = int(np.argmin(errors))
    share = errors[best] / errors[0] if errors[0] > 0 else None
    return replace(candidates[best], rounding=replace(candidates[best].rounding, error=share))


def _output_error(
    unfolding: Unfolding, values: NDArray[np.float32], weight: Weight, moments: NDArray[np.float64]
) -> float:
    """Squared error of what the layer puts out, summed over the columns that were looked at."""
    error = unfolding.rows(rounding_error(values, weight))
    return float(np.sum(np.matmul(error, moments) * error))


def _lost(unfolding: Unfolding, values: NDArray[np.float32], weight: Weight, inputs: _Inputs) -> NDArray[np.float64]:
    """Return what each output channel loses on average when its weights are rounded."""
    error, mean = unfolding.rows(rounding_error(values, weight)), inputs.total / inputs.count
    return np.asarray(np.einsum("gow,gw->go", error, mean).ravel())
