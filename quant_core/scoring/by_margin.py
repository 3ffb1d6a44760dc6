"""Settles top-1 accuracy on the few samples whose class a plan may change.

A sample's margin is by how much the right class leads the best other one. A plan makes a right sample wrong, or a wrong
one right, only where it moves that margin across zero. So the samples of the smallest float margins are scored first.
How far their margins were moved tells how many of the others are still to be expected to cross: movements are taken to
be distributed as Laplace's double exponential of the same mean square, because some samples are moved much farther than
most. With 40 plans of two image classifiers, a sixteenth of 2,000 samples scored each, 3.5 crossings were expected
among the rest in all, and 1 was found.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.scoring.metrics import Score
from quant_core.scoring.sampling import Samples
from quant_core.scoring.sequential import Projection
from quant_core.storage.references import Reference

__all__ = ["COUNTED", "ByMargin"]

COUNTED = frozenset({"top1", "top1_drop"})
"""Metrics that count classes."""

Array = NDArray[np.float64]

_NONE = 0.01
"""So many crossings expected are none."""
_DOUBT = 1 / 3
"""Standard error of the number expected, as a share of it: by so much it was too small where a plan moved most samples
by more than their margins."""


class ByMargin:
    """Visits the samples of a data set by the distance of their float margins from zero."""

    first_share = 1 / 16
    """The share of all samples that settles nine verdicts of ten; with half of it one more round is mostly needed."""

    def __init__(self, whole: pa.Table) -> None:
        """Take the order from the scores (schema SCORES) of any plan on all samples; `known` says if they have it."""
        self._float_margins = _values(whole, "float_margin")
        self._order = np.argsort(np.abs(self._float_margins), kind="stable")

    @staticmethod
    def known(whole: pa.Table) -> bool:
        """Return whether scores have margins: each sample has one label, and no margin is a NaN."""
        column = whole.column("float_margin")
        return not column.null_count and not bool(np.isnan(column.to_numpy()).any())

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the numbers of the samples that come as [start, stop), ascending."""
        return np.sort(self._order[start:stop])

    def samples(self, data: Reference, start: int, stop: int) -> Samples:
        """Return these samples, as a stage is given them."""
        return Samples(data, start, stop, tuple(self.rows(start, stop).tolist()))

    def project(self, metric: str, seen: pa.Table) -> Projection:
        """Project `top1` or `top1_drop` from the scores of the first samples that were visited.

        The value counts the crossings expected among the others, and its error is that of a number of chance events;
        where none is expected, the value is what was seen.
        """
        rest, moved = self._float_margins[self._order[seen.num_rows :]], _moved(seen)
        if not math.isfinite(moved):
            return Projection(Score(math.nan, None), math.inf)
        before = np.concatenate([_values(seen, "float_top1"), (rest > 0).astype(np.float64)])
        crossings = _expected_crossings(rest, moved)
        after = np.concatenate([_values(seen, "top1"), before[seen.num_rows :] - np.sign(rest) * crossings])
        influence = after if metric == "top1" else before - after
        count, spread, expected = len(influence), float(np.std(influence)), float(np.sum(crossings))
        value, error = float(np.sum(influence)) / count, (math.sqrt(expected) + _DOUBT * expected) / count
        deviations = np.abs(influence - value) / (spread or 1.0)
        doubt = math.sqrt(float(np.mean(deviations**4)) / count) / 2
        known = None if expected else pa.table({"top1": after, "float_top1": before})
        score = Score(value, math.hypot(error, spread / math.sqrt(count)))
        return Projection(score, error, spread, doubt, count, known)


def _moved(seen: pa.Table) -> float:
    """Return by how much margins were moved, root mean square; those of labels that are no class are left out."""
    before, after = _values(seen, "float_margin"), _values(seen, "margin")
    classes = np.isfinite(before)
    return math.sqrt(float(np.mean((after[classes] - before[classes]) ** 2))) if classes.any() else 0.0


def _expected_crossings(margins: Array, moved: float) -> Array:
    """Return, of each margin, the probability that it is moved across zero; 0 for all where they add up to none."""
    chances = np.exp(-math.sqrt(2) * np.abs(margins) / moved) / 2 if moved else np.zeros(len(margins))
    return np.asarray(chances if float(np.sum(chances)) >= _NONE else np.zeros(len(margins)))


def _values(scores: pa.Table, name: str) -> Array:
    return np.asarray(scores.column(name).to_numpy(), np.float64)
