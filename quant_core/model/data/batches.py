"""Feeds data to a model in batches that fit it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.data.sequences import initial_states
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import types_kept
from quant_core.model.signature import Signature, fixed_inputs
from quant_core.storage.data import Dataset

__all__ = ["BATCH_BYTES", "LARGEST_BATCH", "Batch", "batches", "in_row_order"]

BATCH_BYTES = 128 << 20
"""What the activations of a batch take at most, unless the user says otherwise."""

LARGEST_BATCH = 32
"""Samples a forward pass takes at once, unless they need too much memory or the user says otherwise."""


@dataclass(frozen=True)
class Batch:
    """Some consecutive samples, ready for the model."""

    feeds: Mapping[str, NDArray[np.generic]]
    """Arrays by input name; the last sample repeated where the model insists on a full batch. Of sequences, the first
    step."""
    rows: NDArray[np.intp]
    """Numbers of the samples in the data, without repetitions."""
    size: int = 0
    """Number of samples that are fed, with repetitions."""
    signature: Signature = field(default_factory=lambda: Signature((), ()))
    """What inputs and outputs are."""
    sequences: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    """Where samples are sequences: all steps, [size, steps, ...], of the inputs that are no states."""
    begun: int = 0
    """Number of samples that begin in it: of single steps, the sequences whose first step is there."""
    halves: Mapping[str, int] = field(default_factory=dict)
    """Inputs whose values are rounded to a narrower type of float, by element type."""

    def at_step(self, step: int, states: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Return what is fed at a step of the sequences, given the states in the model's own axes."""
        found = {name: _placed(array[:, step], name, self.signature) for name, array in self.sequences.items()}
        return {**self.feeds, **_rounded({**found, **states}, self.halves)}

    @property
    def count(self) -> int:
        """Number of samples that are not repetitions."""
        return len(self.rows)


def fixed_batch(graph: FloatGraph) -> int | None:
    """The batch size the model is fixed to, or None."""
    return Signature.of(graph).batch


def default_batch(graph: FloatGraph, memory: int | None = None) -> int:
    """As many samples as keep all activations of a batch within about 128 MiB, 32 at the most.

    Unless half of a thread's `memory` is less than that, it depends on the model and the shapes that calibration saw
    alone: another batch may add up in another order, and results are to be the same on a machine with more memory.
    Larger batches are slower, because their activations leave the processor's cache.
    """
    most = BATCH_BYTES if memory is None else min(BATCH_BYTES, memory // 2)
    elements = Signature.of(graph).elements
    if elements is None:
        shapes = (graph.shape(name) or () for node in graph.nodes for name in node.output if name)
        elements = sum(math.prod(dim or 1 for dim in shape) for shape in shapes)
    return min(max(most // max(4 * elements, 1), 1), LARGEST_BATCH)


def batches(
    graph: FloatGraph,
    data: Dataset,
    size: int | None = None,
    rows: NDArray[np.intp] | None = None,
    memory: int | None = None,
) -> Iterator[Batch]:
    """The samples `rows` (all) in batches of `size` (the default), or of what the model is fixed to.

    A batch holds samples of one shape: where they differ, batches do not come in the order of the rows (see
    `in_row_order`). `memory` is what a thread may fill (see `default_batch`).
    """
    signature = Signature.of(graph)
    constants = {**fixed_inputs(graph), **data.constants}
    for group in data.in_groups(np.arange(data.count) if rows is None else rows):
        step = signature.batch or size or _fitting_size(graph, data, group, memory)
        for first in range(0, len(group), step):
            yield _batch(graph, signature, data, group[first : first + step], constants)


def _fitting_size(graph: FloatGraph, data: Dataset, group: NDArray[np.intp], memory: int | None) -> int:
    """Return how many samples of one shape are a batch: the default, or as many long sequences as BATCH_BYTES hold."""
    size = default_batch(graph, memory)
    if data.starts is not None or not Signature.of(graph).states or not len(group):
        return size
    held = sum(array.nbytes for array in data.batch(group[:1]).values())
    return max(min(size, BATCH_BYTES // held), 1)


def _batch(
    graph: FloatGraph,
    signature: Signature,
    data: Dataset,
    rows: NDArray[np.intp],
    constants: Mapping[str, NDArray[np.generic]],
) -> Batch:
    """Some samples as a batch: along the axis that the model has them on, the last one repeated to fill it."""
    found = _filled(data.batch(rows), (signature.batch or 0) - len(rows))
    sequences: dict[str, NDArray[np.generic]] = {}
    if signature.states and data.starts is None:
        sequences = {name: array for name, array in found.items() if name not in signature.states}
        found |= {name: array[:, 0] for name, array in sequences.items()}
        found |= initial_states(graph, signature, found, signature.batch or len(rows))
    placed = {name: _placed(array, name, signature) for name, array in found.items()}
    feeds = {name: placed[name] if name in placed else constants[name] for name in graph.inputs}
    halves = {name: kind for name, kind in types_kept(graph).items() if name in graph.inputs}
    feeds = _rounded({**feeds, **fixed_inputs(graph)}, halves)
    return Batch(feeds, rows, signature.batch or len(rows), signature, sequences, data.begun_by(rows), halves)


def _filled(found: Mapping[str, NDArray[np.generic]], missing: int) -> dict[str, NDArray[np.generic]]:
    if missing <= 0:
        return dict(found)
    return {name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for name, array in found.items()}


def _placed(array: NDArray[np.generic], name: str, signature: Signature) -> NDArray[np.generic]:
    """Return an input's values with the samples along the axis that the model has them on."""
    return np.ascontiguousarray(np.moveaxis(array, 0, signature.input(name).axis or 0))


def _rounded(feeds: Mapping[str, NDArray[np.generic]], halves: Mapping[str, int]) -> dict[str, NDArray[np.generic]]:
    return {name: _as_given(array, halves[name]) if name in halves else array for name, array in feeds.items()}


def _as_given(array: NDArray[np.generic], kind: int) -> NDArray[np.float32]:
    """Values as an application feeds them to a model of a narrower type, in float32."""
    with np.errstate(over="ignore"):  # beyond the largest float16
        return array.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)


def in_row_order(rows: Sequence[NDArray[np.intp]]) -> NDArray[np.intp] | None:
    """Return how to bring what batches of these rows gave into the order of rows; None where it is."""
    order = np.argsort(np.concatenate(rows), kind="stable") if rows else np.arange(0)
    return None if (order == np.arange(len(order))).all() else order
