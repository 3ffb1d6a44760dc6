"""How data is fed to a model: what the model expects, and batches that fit it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph
from quant_core.storage.data import Dataset

__all__ = ["BATCH_BYTES", "LARGEST_BATCH", "Batch", "batches", "check_inputs", "check_labels"]

BATCH_BYTES = 128 << 20
"""What the activations of a batch take at most, unless the user says otherwise."""

LARGEST_BATCH = 32
"""Samples a forward pass takes at once, unless they need too much memory or the user says otherwise."""


@dataclass(frozen=True)
class Batch:
    """Some consecutive samples, ready for the model."""

    feeds: Mapping[str, NDArray[np.generic]]
    """Arrays by input name; the last sample repeated where the model insists on a full batch."""
    rows: NDArray[np.intp]
    """Numbers of the samples in the data, without repetitions."""

    @property
    def count(self) -> int:
        """Number of samples that are not repetitions."""
        return len(self.rows)


def check_inputs(graph: FloatGraph, data: Dataset) -> None:
    """Raise InputError unless every model input is in the data with the right type and shape."""
    for name in graph.inputs:
        if name not in data.columns:
            raise InputError(
                f"{data.source}: has no array {name!r} for that model input; it has {', '.join(data.columns)}"
            )
        array = data.columns[name]
        expected = onnx.helper.tensor_dtype_to_np_dtype(graph.element_type(name))
        if array.dtype != expected:
            raise InputError(f"{data.source}: {name} is {array.dtype}, the model wants {expected}")
        shape = graph.shape(name)
        if shape is not None and not _fits(array.shape, shape):
            wanted = ", ".join("N" if at == 0 else str(dim or "any") for at, dim in enumerate(shape))
            raise InputError(f"{data.source}: {name} has shape {list(array.shape)}, the model wants [{wanted}]")


def check_labels(graph: FloatGraph, data: Dataset, output: str) -> None:
    """Raise InputError unless the data has one integer label for each thing the output classifies."""
    if data.labels is None:
        raise InputError(f"{data.source}: has no array 'labels', which a top-1 target needs")
    if data.labels.dtype.kind not in "iu":
        raise InputError(f"{data.source}: labels are {data.labels.dtype}, they must be integer class numbers")
    shape = graph.shape(output)
    if shape is None:
        return
    if len(shape) < 2 or not _fits(data.labels.shape, (None, *shape[2:])):
        wanted = ", ".join(["N", *(str(dim or "any") for dim in shape[2:])])
        raise InputError(
            f"{data.source}: labels have shape {list(data.labels.shape)}, output {output} wants [{wanted}]"
        )
    if shape[1] and not 0 <= data.labels.min() <= data.labels.max() < shape[1]:
        raise InputError(
            f"{data.source}: labels run from {data.labels.min()} to {data.labels.max()}, "
            f"output {output} has classes 0 to {shape[1] - 1}"
        )


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) > 0 and all(
        want in (None, have) for have, want in zip(shape[1:], declared[1:], strict=True)
    )


def fixed_batch(graph: FloatGraph) -> int | None:
    """The batch size the model is fixed to, or None."""
    firsts = [(graph.shape(name) or (None,))[0] for name in graph.inputs]
    return next((dim for dim in firsts if dim is not None), None)


def default_batch(graph: FloatGraph, memory: int | None = None) -> int:
    """As many samples as keep all activations of a batch within about 128 MiB, 32 at the most.

    Unless half of a thread's `memory` is less than that, it depends on the model alone: another batch may add up in
    another order, and results are to be the same on a machine with more memory. Larger batches are slower, for their
    activations leave the processor's cache.
    """
    most = BATCH_BYTES if memory is None else min(BATCH_BYTES, memory // 2)
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

    `memory` is what a thread may fill (see `default_batch`).
    """
    fixed = fixed_batch(graph)
    step, rows = fixed or size or default_batch(graph, memory), np.arange(data.count) if rows is None else rows
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        feeds = data.batch(part)
        feeds = {name: feeds[name] for name in graph.inputs}
        missing = (fixed or 0) - len(part)
        if missing > 0:
            feeds = {name: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for name, a in feeds.items()}
        yield Batch(feeds, part)
