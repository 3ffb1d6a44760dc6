"""Runs the prepared model on first samples, to see what declared shapes leave open.

Which sizes tensors have, on average over the shapes of the samples; which axis of an output grows with the batch;
whether a batch gives what its samples give alone; and which values are probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError, first_line
from quant_core.model.data.batches import batches
from quant_core.model.graph import FloatGraph
from quant_core.model.preparation.output_values import described_output
from quant_core.model.sessions import Session, open_nodes
from quant_core.model.signature import OutputRole, Signature
from quant_core.model.sizes import Sizes
from quant_core.storage.data import Dataset

__all__ = ["observed", "observed_signature"]

_TRIED = 3
"""Samples of the batch that is tried: a size that no other axis is likely to have."""

_ALIKE = 1e-3
"""Largest difference, as a share of the largest value, that another order of adding up may make."""


def observed(graph: FloatGraph, data: Dataset, declared: Signature) -> tuple[Signature, Sizes]:
    """Return what a model's inputs and outputs are, and how large its tensors, by a run on first samples of the data.

    Raises InputError when the model cannot run on them.
    """
    shapes = _shapes(graph, data)
    size = declared.batch or 1
    signature = observed_signature(graph, data, declared)
    written = graph.producer.keys()
    elements = sum(share * sum(math.prod(found[n]) for n in found.keys() & written) / size for share, found in shapes)
    return replace(signature, elements=max(int(elements), 1)), Sizes(tuple(shapes), size)


def observed_signature(graph: FloatGraph, data: Dataset, declared: Signature) -> Signature:
    """Return what a model's inputs and outputs are, by a run on first samples; raises InputError where that fails."""
    # All tensors at once are a hundred times the outputs: values are of these alone.
    session = open_nodes(graph, graph.nodes, graph.compared, {})
    largest = max(data.in_groups(np.arange(data.count)), key=len)
    singles = [_run(session, graph, data, largest[at : at + 1]) for at in range(min(_TRIED, len(largest)))]
    signature = declared
    if declared.batch is None and len(singles) == _TRIED:
        signature = _batched(session, graph, data, largest[:_TRIED], declared, singles)
    of_step = partial(described_output, graph, singles, signature.batch or 1, signature.leading)
    return replace(signature, outputs=tuple(role if role.fails else of_step(role) for role in signature.outputs))


def _shapes(graph: FloatGraph, data: Dataset) -> list[tuple[float, dict[str, tuple[int, ...]]]]:
    """The share of the samples that are of one shape, and the shape of each tensor for one batch of them."""
    names = [name for name in graph.producer if graph.is_tensor(name)]
    session = open_nodes(graph, graph.nodes, [*names, *(n for n in graph.outputs if n not in names)], {})
    found = []
    for group in data.in_groups(np.arange(data.count)):
        feeds = next(batches(graph, data, 1, group[:1])).feeds
        with _named_failure(data, group[0]):
            values = session.run_values(session.values(feeds))
        written = {name: tuple(value.shape()) for name, value in values.items() if value.is_tensor()}
        shapes = {name: array.shape for name, array in feeds.items()} | written
        found.append((len(group) / data.count, shapes))
    return found


@contextmanager
def _named_failure(data: Dataset, row: int) -> Iterator[None]:
    """Raise InputError that names the data where ONNX Runtime fails, but for a lack of memory."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        raise InputError(
            f"{data.source}: ONNX Runtime cannot run the model on sample {row}: {first_line(error)}"
        ) from error


def _run(session: Session, graph: FloatGraph, data: Dataset, rows: NDArray[np.intp]) -> dict[str, NDArray[np.generic]]:
    batch = next(batches(graph, data, len(rows), rows))
    with _named_failure(data, rows[0]):
        found = session(batch.feeds)
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def _batched(
    session: Session,
    graph: FloatGraph,
    data: Dataset,
    rows: NDArray[np.intp],
    declared: Signature,
    singles: list[dict[str, NDArray[np.generic]]],
) -> Signature:
    """The signature with the axes that grow with the batch; one sample at a time where batches fail or mix samples."""
    try:
        whole = _run(session, graph, data, rows)
    except InputError:
        return replace(declared, batch=1)
    outputs, mixed = [], False
    for role in declared.outputs:
        if role.name not in whole:
            outputs.append(role)
            continue
        axis = _growing_axis(role, singles, whole[role.name])
        outputs.append(
            replace(role, axis=axis) if axis is not None else _unlike_samples(role, singles, whole[role.name])
        )
        mixed |= axis is None and _has_samples(role, singles)
        mixed |= axis is not None and not _same(singles, role.name, axis, whole[role.name])
    return replace(declared, batch=1) if mixed else replace(declared, outputs=tuple(outputs))


def _has_samples(role: OutputRole, singles: list[dict[str, NDArray[np.generic]]]) -> bool:
    """Return whether an output that does not grow with the batch has an axis of one sample, where each runs alone."""
    shapes = {found[role.name].shape for found in singles}
    axis = role.axis or 0
    return len(shapes) == 1 and all(len(shape) > axis and shape[axis] == 1 for shape in shapes)


def _unlike_samples(
    role: OutputRole, singles: list[dict[str, NDArray[np.generic]]], whole: NDArray[np.generic]
) -> OutputRole:
    """Return the role of an output that does not grow with the batch: it has no samples, unless on an axis of one."""
    shapes = {found[role.name].shape for found in singles}
    if shapes != {whole.shape} or _has_samples(role, singles):
        return role
    return replace(role, fails="its shape is the same for any number of samples")


def _growing_axis(
    role: OutputRole, singles: list[dict[str, NDArray[np.generic]]], whole: NDArray[np.generic]
) -> int | None:
    """The axis along which a batch is what its samples are alone, one after the other."""
    one = singles[0][role.name].shape
    shapes = {found[role.name].shape for found in singles}
    if len(one) != whole.ndim or len(shapes) > 1:
        return None
    grown = [at for at, (a, b) in enumerate(zip(one, whole.shape, strict=True)) if a != b]
    if len(grown) != 1 or whole.shape[grown[0]] != len(singles) * one[grown[0]]:
        return None
    return grown[0] if role.axis in (None, grown[0]) else None


def _same(singles: list[dict[str, NDArray[np.generic]]], name: str, axis: int, whole: NDArray[np.generic]) -> bool:
    if whole.dtype.kind != "f":
        return True
    together = np.concatenate([found[name] for found in singles], axis=axis).astype(np.float64)
    scale = np.abs(together[np.isfinite(together)]).max(initial=0)
    return bool(np.allclose(together, whole, rtol=_ALIKE, atol=_ALIKE * scale, equal_nan=True))
