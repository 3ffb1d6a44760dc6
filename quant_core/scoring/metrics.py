"""What a quantized model is measured by, against the float model's outputs.

Each sample contributes a few terms (schema SCORES); every metric is computed from those, with its standard
error over samples. All sums are in float64 and in the order of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.scoring.compared import ClassAxis, Compared
from quant_core.storage.schemas import SCORES

__all__ = [
    "METRICS",
    "Estimate",
    "Score",
    "Terms",
    "additive",
    "columns_of",
    "decibels",
    "estimate",
    "power_ratio",
    "sample_terms",
    "scores_of",
    "terms_table",
]

Array = NDArray[np.generic]
Terms = dict[str, NDArray[np.float64]]
"""Per-sample terms by column of SCORES, for some consecutive samples."""


@dataclass(frozen=True)
class Score:
    """A metric's value over a data set."""

    value: float
    """In the metric's unit."""
    standard_error: float | None
    """Of the value, over samples; None where it has none (a user's own metric, a single sample)."""


def sample_terms(
    reference: Sequence[Array], quantized: Sequence[Array], labels: Array | None, outputs: Compared | None = None
) -> Terms:
    """Terms of a batch. `reference` and `quantized` are the compared outputs, shape [n, ...] each.

    Distances and powers are over all outputs together, flattened; of several outputs, and of the parts that `outputs`
    tells, those of each are there, too.
    """
    count, size = len(reference[0]), sum(array.size for array in reference)
    # Everything is computed in float64, some ten times over.
    step = max(_VALUES_AT_ONCE * count // max(size, 1), 1)
    parts = [
        _terms(
            [array[first : first + step] for array in reference],
            [array[first : first + step] for array in quantized],
            None if labels is None else labels[first : first + step],
            outputs,
        )
        for first in range(0, count, step)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


_VALUES_AT_ONCE = 1 << 20


def _terms(
    reference: Sequence[Array], quantized: Sequence[Array], labels: Array | None, outputs: Compared | None
) -> Terms:
    classes = ClassAxis() if outputs is None else outputs.classes
    powers = [_powers(exact, found) for exact, found in zip(reference, quantized, strict=True)]
    signal, error, own, product = (np.sum(terms, axis=0) for terms in zip(*powers, strict=True))
    terms = {"l2": np.sqrt(error), "signal": signal, "error": error, "cosine": _cosine_distance(signal, own, product)}
    if classes.known:
        exact, found = reference[classes.output], quantized[classes.output]
        terms["kl"] = divergence(exact, found, classes.axis, classes.probabilities)
    if len(powers) > 1:
        terms["output_signal"] = np.stack([one[0] for one in powers], axis=1)
        terms["output_error"] = np.stack([one[1] for one in powers], axis=1)
        terms["output_cosine"] = np.stack([_cosine_distance(one[0], *one[2:]) for one in powers], axis=1)
    if outputs is not None and outputs.parts:
        parts = [
            _powers(part.of(reference[part.output]), part.of(quantized[part.output]))[:2] for part in outputs.parts
        ]
        terms["part_signal"], terms["part_error"] = (np.stack(side, axis=1) for side in zip(*parts, strict=True))
    if labels is not None:
        terms["top1"] = share_right(quantized[classes.output], labels, classes.axis)
        terms["float_top1"] = share_right(reference[classes.output], labels, classes.axis)
        if labels[0].size == 1:
            terms["margin"] = margin_of(quantized[classes.output], labels, classes.axis)
            terms["float_margin"] = margin_of(reference[classes.output], labels, classes.axis)
    return terms


def _powers(reference: Array, quantized: Array) -> tuple[NDArray[np.float64], ...]:
    """Summed squares of a reference, of the error and of what was found, and their summed product; a value a sample."""
    count = len(reference)
    theirs, ours = (np.array(array, np.float64).reshape(count, -1) for array in (reference, quantized))
    same = np.isinf(theirs) & (ours == theirs)
    ours[same] = theirs[same] = 0.0  # equal infinities are no error, and no signal that could be compared
    return (
        np.sum(theirs**2, axis=1),
        np.sum((ours - theirs) ** 2, axis=1),
        np.sum(ours**2, axis=1),
        np.sum(ours * theirs, axis=1),
    )


def _cosine_distance(
    signal: NDArray[np.float64], own: NDArray[np.float64], product: NDArray[np.float64]
) -> NDArray[np.float64]:
    norms = np.sqrt(signal) * np.sqrt(own)
    # Two zero vectors point the same way; a zero vector and another do not; a NaN stays one.
    alike = np.divide(product, norms, out=np.where(signal == own, 1.0, 0.0), where=norms != 0)
    return np.asarray(1 - np.minimum(alike, 1.0))  # the last bit of a quotient may be above


def divergence(reference: Array, quantized: Array, axis: int = 1, probabilities: bool = False) -> NDArray[np.float64]:
    """KL(reference || quantized) of each sample's classes, along an axis, averaged over other axes.

    Values are logits, whose softmax is taken, or `probabilities`.
    """
    logarithms = _log_probabilities if probabilities else _log_softmax
    left, right = (logarithms(_classes_second(values, axis)) for values in (reference, quantized))
    with np.errstate(invalid="ignore"):  # of two classes that both have no probability
        terms = np.where(np.isneginf(left), 0.0, np.exp(left) * (left - right))
    return np.asarray(np.sum(terms, axis=1).reshape(len(left), -1).mean(axis=1))


def _classes_second(values: Array, axis: int) -> NDArray[np.float64]:
    """Values with the axis of classes behind that of the samples."""
    found = np.asarray(values, np.float64)
    return np.moveaxis(found, axis, 1) if found.ndim > axis else found.reshape(len(found), -1)


_LEAST_PROBABILITY = 1e-30
"""What a probability of 0, as rounding makes it, counts for."""


def _log_probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = np.maximum(values, _LEAST_PROBABILITY)
    return np.asarray(np.log(positive / positive.sum(axis=1, keepdims=True)))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True)))


def share_right(outputs: Array, labels: Array, axis: int = 1) -> NDArray[np.float64]:
    """For each sample, the share of positions (one, unless the output is dense) whose largest class is right."""
    right = np.argmax(outputs, axis=axis) == labels
    return np.asarray(right.reshape(len(right), -1).mean(axis=1))


def margin_of(outputs: Array, labels: Array, axis: int = 1) -> NDArray[np.float64]:
    """For each sample of one label, by how much its class leads the best other one; it is below 0 where it does not.

    Minus infinity where the label is none of the classes.
    """
    values = np.moveaxis(np.array(outputs, np.float64), axis, -1).reshape(len(outputs), -1)
    right = labels.reshape(len(values)).astype(np.intp)
    rows = np.flatnonzero((right >= 0) & (right < values.shape[1]))
    own = np.full(len(values), -np.inf)
    own[rows] = values[rows, right[rows]]
    values[rows, right[rows]] = -np.inf
    return np.asarray(own - values.max(axis=1))


def terms_table(parts: Sequence[Terms]) -> pa.Table:
    """Terms of consecutive batches as a table of schema SCORES."""
    columns = {
        name: _arrow(np.concatenate([part[name] for part in parts])) if all(name in part for part in parts) else None
        for name in SCORES.names
    }
    count = sum(len(part["l2"]) for part in parts)
    arrays = [pa.nulls(count, field.type) if (column := columns[field.name]) is None else column for field in SCORES]
    return pa.Table.from_arrays(arrays, schema=SCORES)


def _arrow(values: NDArray[np.float64]) -> pa.Array:
    """Return numbers, or rows of them, as a column."""
    if values.ndim == 1:
        return pa.array(values)
    ends = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values.ravel()))


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
