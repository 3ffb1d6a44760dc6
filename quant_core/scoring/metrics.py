"""What a quantized model is measured by, against the float model's outputs.

Each sample contributes a few terms (see `terms`, schema SCORES); every metric is computed from those, with its standard
error over samples. All sums are in float64 and in the order of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = [
    "METRICS",
    "Estimate",
    "Score",
    "additive",
    "columns_of",
    "decibels",
    "estimate",
    "power_ratio",
    "scores_of",
]


@dataclass(frozen=True)
class Score:
    """A metric's value over a data set."""

    value: float
    """In the metric's unit."""
    standard_error: float | None
    """Of the value, over samples; None where it has none (a user's own metric, a single sample)."""


def _of_outputs(scores: pa.Table, name: str) -> list[NDArray[np.float64]]:
    """A term of every output that is compared, one value a sample."""
    several = scores.column(f"output_{name}")
    return [_column(scores, name)] if several.null_count or not scores.num_rows else columns_of(several)


def _of_parts(scores: pa.Table, name: str) -> list[NDArray[np.float64]]:
    """A term of every part of an output that is told apart, one value a sample."""
    parts = scores.column(f"part_{name}")
    return [] if parts.null_count or not scores.num_rows else columns_of(parts)


def columns_of(rows: pa.ChunkedArray) -> list[NDArray[np.float64]]:
    """Values by their place in the lists of a column, one a list."""
    return list(np.asarray(rows.combine_chunks().flatten(), np.float64).reshape(len(rows), -1).T)


def _column(scores: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(scores.column(name).to_numpy(), np.float64)


@dataclass(frozen=True)
class Estimate:
    """A metric's value, and how much each sample has to do with it."""

    value: float
    """In the metric's unit."""
    influence: NDArray[np.float64] | None
    """One value a sample, whose mean varies as the metric does; None where the metric is infinite."""

    @property
    def score(self) -> Score:
        """The value with its standard error."""
        return Score(self.value, None if self.influence is None else _error_of_mean(self.influence))


def _mean(values: NDArray[np.float64]) -> Estimate:
    # sum / n, not a difference of means: 20 of 2,000 is 0.01 exactly, as the user writes it.
    return Estimate(float(np.sum(values)) / len(values), values)


def _error_of_mean(values: NDArray[np.float64]) -> float | None:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


def _worst(estimates: Iterable[Estimate], sign: int) -> Estimate:
    """The estimate of the largest value, times a sign; a NaN is the worst of all."""
    return max(estimates, key=lambda one: math.inf if math.isnan(one.value) else sign * one.value)


def _sqnr(scores: pa.Table) -> Estimate:
    """The SQNR of the output, or the part of one, where it is the lowest."""
    signals, errors = (_of_outputs(scores, term) + _of_parts(scores, term) for term in ("signal", "error"))
    powers = zip(signals, errors, strict=True)
    return _worst((decibels(signal, error) for signal, error in powers), -1)


def _cosine(scores: pa.Table) -> Estimate:
    """The mean distance of the output where it is the largest."""
    return _worst(map(_mean, _of_outputs(scores, "cosine")), 1)


def decibels(signal: NDArray[np.float64], error: NDArray[np.float64]) -> Estimate:
    """The ratio of summed signal to summed error, given by sample; its influence by the delta method."""
    ratio = power_ratio(signal.sum(), error.sum())
    if math.isinf(ratio):
        return Estimate(ratio, None)
    relative = signal / signal.mean() - error / error.mean()
    return Estimate(ratio, relative * 10 / math.log(10))


def power_ratio(signal: float, error: float) -> float:
    """The ratio of two powers in dB: infinite without an error, minus infinity without a signal."""
    if not error:
        return math.inf
    return 10 * math.log10(signal / error) if signal else -math.inf


METRICS: Mapping[str, Callable[[pa.Table], Estimate]] = {
    "l2": lambda scores: _mean(_column(scores, "l2")),
    "sqnr_db": _sqnr,
    "kl": lambda scores: _mean(_column(scores, "kl")),
    "cosine": _cosine,
    "top1": lambda scores: _mean(_column(scores, "top1")),
    "top1_drop": lambda scores: _mean(_column(scores, "float_top1") - _column(scores, "top1")),
}
"""Metrics by name; the last two need labels. Of several outputs, L2 is over all of them, SQNR and cosine distance are
those of the worst; SQNR of the worst part, where channels of an output are of unlike scale."""

_OF_AN_EVALUATOR: Mapping[str, Callable[[pa.Table], Estimate]] = {
    "score": lambda scores: _mean(_column(scores, "score")),
    "score_drop": lambda scores: _mean(_column(scores, "float_score") - _column(scores, "score")),
    "low_score": lambda scores: _mean(_column(scores, "score")),
    "score_rise": lambda scores: _mean(_column(scores, "score") - _column(scores, "float_score")),
}
"""Metrics of the user's evaluator, where it returns one value a sample."""


def estimate(metric: str, scores: pa.Table) -> Estimate:
    """Return a metric's value, of the user's evaluator too; raises KeyError for no such metric."""
    return {**METRICS, **_OF_AN_EVALUATOR}[metric](scores)


def additive(metric: str, score: float) -> float:
    """A score on a scale on which the errors of several layers about add up: as power, where it is an amplitude."""
    if metric == "l2":
        return score * abs(score)
    if metric == "score":  # higher is better
        return -score
    return 10 ** (-score / 10) if metric == "sqnr_db" else score


def scores_of(scores: pa.Table) -> dict[str, float]:
    """The value of every metric the data allows."""
    columns = {"top1_drop": "top1", "sqnr_db": "signal"}
    known = [name for name in METRICS if scores.column(columns.get(name, name)).null_count == 0]
    return {name: METRICS[name](scores).value for name in known}
