"""Finds the places of sequences that are padding: what a model reads there changes nothing of what it gives.

Numbers that are chosen by sums over what a layer reads are better chosen without those places, often most of them. An
input of zeros and ones may say which they are. Whether it does is measured on a few samples: where it is 0, the other
inputs get values of other places, and all outputs have to stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_core.model.data.batches import Batch, batches
from quant_core.model.graph import FloatGraph
from quant_core.model.sessions import Session, fast_numerics, open_nodes
from quant_core.model.signature import Signature
from quant_core.storage.data import Dataset

__all__ = ["Padding", "RealPlaces", "rows_of"]

_SAMPLES = 8
"""Samples that the outputs are compared on."""
_SAME = 1e-4
"""By how much outputs may differ, as a share of the largest value, and still be the same."""

RealPlaces = NDArray[np.bool_]
"""Where samples are no padding, [samples, places]."""


@dataclass(frozen=True)
class Padding:
    """Where a model's inputs say that places are padding."""

    input: str | None
    """The input that is 0 at padding; None where there is none."""

    @classmethod
    def of(cls, graph: FloatGraph, data: Dataset) -> Padding:
        """Measure which input of a model it is, if any, on the first samples of data."""
        if Signature.of(graph).states or data.starts is not None:
            return cls(None)
        batch = next(iter(batches(graph, data, _SAMPLES, np.arange(min(data.count, _SAMPLES)))))
        tried = [name for name in batch.feeds if _may_say(batch, name)]
        if not tried:
            return cls(None)
        session = open_nodes(graph, graph.nodes, graph.outputs, {}, fast_numerics(graph))
        return cls(next((name for name in tried if _changes_nothing(session, batch, name)), None))

    def real_places(self, batch: Batch) -> RealPlaces | None:
        """Return the places of a batch that are no padding; None where all count."""
        return None if self.input is None else np.asarray(batch.feeds[self.input][: batch.count] != 0)


def rows_of(real: RealPlaces | None, shape: Sequence[int]) -> NDArray[np.intp] | None:
    """Return which rows along the last axis of a tensor are of real places; None where the tensor has no such rows."""
    if real is None or (tuple(shape[:-1]) != real.shape and tuple(shape[:-1]) != (real.size,)) or not real.any():
        return None
    return np.flatnonzero(real)


def _may_say(batch: Batch, name: str) -> bool:
    """Return whether an input holds both zeros and ones, [samples, places], and others have such places too."""
    values = batch.feeds[name]
    if values.ndim != 2 or len(values) != batch.size or values.dtype.kind not in "biuf":
        return False
    return set(np.unique(values).tolist()) == {0, 1} and bool(_others(batch, name))


def _others(batch: Batch, name: str) -> list[str]:
    shape = batch.feeds[name].shape
    return [other for other, array in batch.feeds.items() if other != name and array.shape[:2] == shape]


def _changes_nothing(session: Session, batch: Batch, name: str) -> bool:
    """Return whether outputs stay when all other inputs change where an input is 0."""
    source = _other_places(batch.feeds[name] != 0)
    rows = np.arange(len(source))[:, None]
    changed = {other: batch.feeds[other][rows, source] for other in _others(batch, name)}
    if all(np.array_equal(array, batch.feeds[other]) for other, array in changed.items()):
        return False
    before, after = session(batch.feeds), session({**batch.feeds, **changed})
    return all(_are_alike(np.asarray(before[output]), np.asarray(after[output])) for output in before)


def _other_places(real: RealPlaces) -> NDArray[np.intp]:
    """Return for each place itself or, where it is not real, one of the sample's real places in turn."""
    found = np.tile(np.arange(real.shape[1]), (len(real), 1))
    for places, own in zip(found, real, strict=True):
        if own.any():
            places[~own] = np.resize(np.flatnonzero(own), np.count_nonzero(~own))
    return found


def _are_alike(before: NDArray[np.generic], after: NDArray[np.generic]) -> bool:
    if before.shape != after.shape or before.dtype.kind not in "fiub":
        return False
    one, other = before.astype(np.float64), after.astype(np.float64)
    return bool(np.abs(one - other).max(initial=0) <= _SAME * np.abs(one).max(initial=0))
