"""How sure a score on a finite sample is: bounds from the differences that each sample shows.

Float and quantized model answer the same samples, so the bounds are paired. For top-1 it is Tango's score bound on
the samples that one of the two has right and the other wrong (Tango, Equivalence test and confidence interval for
the difference in proportions for the paired-sample design, Statistics in Medicine 17, 1998); for means it is
Student's t; for decibels t by the delta method.

A search that looks at many plans finds one by luck that looks better than it is. Each look therefore spends a tenth
of the error probability that is left, so that all together never spend more than all of it (alpha spending).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.criterion import Criterion
from quant_core.scoring.metrics import estimate

__all__ = ["Bounds", "alpha_of_look", "bounds", "margin", "samples_to_settle", "student_quantile", "tango_bounds"]

_SPENT_A_LOOK = 0.1
_NORMAL_FROM = 2000


@dataclass(frozen=True)
class Bounds:
    """Where a score lies; each end is exceeded with the error probability that was asked for."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""

    def worst(self, target: Criterion) -> float:
        """The end that is the worse for the target."""
        return self.low if target.higher_is_better else self.high


def alpha_of_look(confidence: float, look: int) -> float:
    """The error probability that a look may spend, counted from 0."""
    return (1 - confidence) * _SPENT_A_LOOK * (1 - _SPENT_A_LOOK) ** look


def bounds(metric: str, scores: pa.Table, alpha: float) -> Bounds:
    """Bounds of a metric's value (schema SCORES), each wrong with probability `alpha`; raises KeyError for no such."""
    found = estimate(metric, scores)
    if metric in ("top1_drop", "score_drop") and _counted(found.influence):
        lost, won = (int(np.sum(found.influence == sign)) for sign in (1, -1))
        return Bounds(*tango_bounds(lost, won, scores.num_rows, alpha))
    if metric == "sqnr_db" and found.value == math.inf and scores.num_rows > 1:
        return Bounds(math.inf, math.inf)  # no sample has an error, as where an L2 distance of 0 is sure
    error = found.score.standard_error
    if error is None or not math.isfinite(found.value):
        return Bounds(-math.inf, math.inf)
    reach = student_quantile(1 - alpha, scores.num_rows - 1) * error
    return Bounds(found.value - reach, found.value + reach)


def _counted(difference: NDArray[np.float64] | None) -> bool:
    """Return whether each sample is either right or wrong; dense outputs are right in part."""
    return difference is not None and bool(np.isin(difference, (-1, 0, 1)).all())


def tango_bounds(lost: int, won: int, count: int, alpha: float) -> tuple[float, float]:
    """Bounds of the difference of two paired proportions, (lost - won) / count.

    `lost` samples only the first has right, `won` only the second, of `count`.
    """
    z = NormalDist().inv_cdf(1 - alpha)
    return -_tango_high(won, lost, count, z), _tango_high(lost, won, count, z)


def _tango_high(lost: int, won: int, count: int, z: float) -> float:
    low, high = (lost - won) / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        b = (2 * count - lost + won) * middle - lost - won
        c = -won * middle * (1 - middle)
        other = (math.sqrt(max(b * b - 8 * count * c, 0.0)) - b) / (4 * count)
        deviation = math.sqrt(max(count * (2 * other + middle * (1 - middle)), 0.0))
        low, high = (middle, high) if lost - won - count * middle > -z * deviation else (low, middle)
    return high


@lru_cache(maxsize=64)
def student_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t above the median, for whole degrees of freedom; infinite for none.

    By bisection of the distribution's finite sum (Abramowitz, Stegun, Handbook of Mathematical Functions, 26.7.3-4).
    """
    if freedom < 1:
        return math.inf
    if freedom >= _NORMAL_FROM:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if (1 + _student_within(angle, freedom)) / 2 < probability else (low, angle)
    return math.sqrt(freedom) * math.tan(high)


def _student_within(angle: float, freedom: int) -> float:
    """The probability that |t| is at most sqrt(freedom) tan(angle)."""
    square, odd = math.cos(angle) ** 2, freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for step in range((freedom - odd) // 2):
        total += term
        term *= square * ((2 * step + 2) / (2 * step + 3) if odd else (2 * step + 1) / (2 * step + 2))
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def margin(spread: float, count: int, alpha: float) -> float:
    """Return what a bound adds to the mean of `count` values of standard deviation `spread`."""
    return student_quantile(1 - alpha, count - 1) * spread / math.sqrt(count)


def samples_to_settle(target: Criterion, value: float, spread: float, alpha: float) -> int | None:
    """About how many samples it takes until a score of this value is surely within or surely beyond the limit.

    None where it is right at the limit, as no number of samples would do, and where there is no limit.
    """
    if target.limit is None:
        return None
    distance = abs(target.limit - value)
    if not distance or not math.isfinite(distance) or not math.isfinite(spread):
        return None
    return max(math.ceil((NormalDist().inv_cdf(1 - alpha) * spread / distance) ** 2), 2)
