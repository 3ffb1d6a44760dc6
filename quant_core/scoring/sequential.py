"""Stops scoring a plan once the verdict on it is settled.

A plan is scored round by round on more of the evaluation data. After each round its score on all of them is
projected: from that of a plan like it, which is known on all of them, and the paired difference of the two on
the samples seen (a difference estimator with finite population correction; Cochran, Sampling Techniques, 3rd
edition, chapters 2 and 7). It stops when the limit is three standard errors away. A plan that was taken for good in
error is found out: the model that is given out is measured on all samples, from its file. With a confidence asked
for, a plan may be refused early, when the bound on all samples is sure to be beyond the limit, but is only accepted
where all of them are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.criterion import Criterion
from quant_core.scoring.confidence import bounds, margin
from quant_core.scoring.metrics import METRICS, Score, scores_of
from quant_core.scoring.sampling import Samples, doubling, visit_order, worth_a_round
from quant_core.storage.references import Reference

__all__ = [
    "EvenVisits",
    "Projection",
    "Visits",
    "evaluation_rounds",
    "in_data_order",
    "project",
    "projected_scores",
]

_FEWEST = 32
_STANDARD_ERRORS = 3.0


def evaluation_rounds(
    count: int, samples: Literal["auto", "all"] | int, macs: int = 0, first_share: float = 1 / 8
) -> list[int]:
    """The numbers of samples after which each round ends, for a data set of `count`; the last is all of it.

    `macs` are the multiply-accumulates of a sample, 0 where they are not known. The first round is a `first_share` of
    the samples, unless they are few or so small that more are worth a round.
    """
    fewest = max(_FEWEST, worth_a_round(macs))
    if samples == "all" or count < 2 * fewest:
        return [count]
    stops = [*doubling(max(int(count * first_share), fewest), count // 2), count - count // 4, count]
    return sorted(set(stops))


def in_data_order(parts: Sequence[pa.Table], rows: Sequence[NDArray[np.intp]]) -> pa.Table:
    """Scores (schema SCORES) of some samples each, whose numbers are `rows`, in the order of the data."""
    if len(parts) == 1:
        return parts[0]
    return pa.concat_tables(parts).take(np.argsort(np.concatenate(rows), kind="stable"))


class Visits(Protocol):
    """An order in which samples are scored, and what the first ones tell of all."""

    @property
    def first_share(self) -> float:
        """The share of all samples that the first round is worth beginning with."""

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the numbers of the samples that come as [start, stop), ascending."""

    def samples(self, data: Reference, start: int, stop: int) -> Samples:
        """Return these samples, as a stage is given them."""

    def project(self, metric: str, seen: pa.Table) -> Projection:
        """Project a metric on all samples from the scores (schema SCORES) of the first ones that were visited."""


@dataclass(frozen=True)
class EvenVisits:
    """Visits that are spread over the data; what they tell is projected from a plan that is known on all of it."""

    count: int
    """Number of all samples."""
    whole: pa.Table | None = None
    """The scores of that plan; None where nothing is to be projected."""
    first_share: float = 1 / 8
    """The share of all samples that the first round is worth beginning with."""

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the numbers of the samples that come as [start, stop), ascending."""
        return visit_order(self.count, start, stop)

    def samples(self, data: Reference, start: int, stop: int) -> Samples:
        """Return these samples, as a stage is given them."""
        return Samples(data, start, stop)

    def project(self, metric: str, seen: pa.Table) -> Projection:
        """Project a metric on all samples from the scores (schema SCORES) of the first ones that were visited."""
        return Projection(Score(math.nan, None), math.inf) if self.whole is None else project(metric, seen, self.whole)


@dataclass(frozen=True)
class Projection:
    """What a plan's score on all samples is expected to be."""

    score: Score
    """The value, and its standard error over samples such as these."""
    uncertain: float
    """Standard error of the value as the score on these very samples; infinite where there is none."""
    spread: float = 0.0
    """Standard deviation of the metric over samples."""
    spread_doubt: float = 0.0
    """Standard error of that, as a share of it."""
    count: int = 0
    """Number of all samples."""
    known: pa.Table | None = None
    """The metric's terms (of schema SCORES) on all samples, where those of the rest are known, too."""

    def verdict(self, target: Criterion, alpha: float | None = None) -> bool | None:
        """Return whether the plan meets the target, or None while that is open.

        With `alpha`, what has to meet it is the bound that is exceeded with that probability.
        """
        if not (math.isfinite(self.score.value) and math.isfinite(self.uncertain)):
            return None
        if self.known is not None:
            return target.met_by(self.bound(target, alpha))
        reach = _STANDARD_ERRORS * self.uncertain
        if alpha is not None:
            least = self._margin(alpha) * max(1 - _STANDARD_ERRORS * self.spread_doubt, 0.0)
            best = reach - least
            return None if target.met_by(self.score.value + (best if target.higher_is_better else -best)) else False
        ends = {target.met_by(self.score.value + sign * reach) for sign in (-1, 1)}
        return ends.pop() if len(ends) == 1 else None

    def bound(self, target: Criterion, alpha: float | None) -> float:
        """Return what has to meet the target: the value or, with `alpha`, its bound on the side that is the worse."""
        if self.known is not None and alpha is not None:
            return bounds(target.metric, self.known, alpha).worst(target)
        reach = 0.0 if alpha is None else self._margin(alpha)
        return self.score.value - reach if target.higher_is_better else self.score.value + reach

    def _margin(self, alpha: float) -> float:
        return margin(self.spread, self.count, alpha)


def project(metric: str, plan: pa.Table, other: pa.Table) -> Projection:
    """Project a plan's score from its terms on the first samples visited, and another plan's on all of them."""
    count, seen = other.num_rows, plan.num_rows
    pair = other.take(visit_order(count, 0, seen))
    ours, theirs, known = (METRICS[metric](scores) for scores in (plan, pair, other))
    value = known.value + ours.value - theirs.value
    if ours.influence is None or theirs.influence is None or not math.isfinite(value):
        return Projection(Score(value, None), math.inf)
    error = _error_of_mean(ours.influence - theirs.influence, "top1" in metric)
    deviations = np.abs(ours.influence - ours.influence.mean())
    spread = float(np.sqrt(np.mean(deviations**2)))
    # The standard error of a variance, by the fourth moment; half of it is that of the deviation.
    doubt = math.sqrt(float(np.mean((deviations / spread) ** 4)) / seen) / 2 if spread else 0.0
    uncertain = error * math.sqrt(1 - seen / count)
    return Projection(Score(value, math.hypot(uncertain, spread / math.sqrt(count))), uncertain, spread, doubt, count)


def projected_scores(some: pa.Table, whole: pa.Table) -> dict[str, float]:
    """Return the scores by metric of which the terms are known on the first samples visited, projected from `whole`."""
    known, on_some = scores_of(whole), scores_of(some)
    if some.num_rows == whole.num_rows:
        return on_some
    values = {name: project(name, some, whole).score.value for name in known if name in on_some}
    return {name: value if math.isfinite(value) else on_some[name] for name, value in values.items()}


def _error_of_mean(difference: NDArray[np.float64], counted: bool) -> float:
    """Standard error of the mean, as if one sample more had differed by the largest difference there may be.

    Where none of a few samples has changed its class, that does not mean that none will.
    """
    centred = difference - difference.mean()
    largest = max(float(np.abs(centred).max()), 1.0 if counted else 0.0)
    return math.sqrt((float(np.sum(centred**2)) + largest**2) / len(difference) / len(difference))
