"""What each sample contributes to the metrics: powers, distances, divergence and right classes (schema SCORES)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.scoring.compared import ClassAxis, Compared
from quant_core.storage.schemas import SCORES

__all__ = ["Terms", "divergence", "margin_of", "sample_terms", "share_right", "terms_table"]

Array = NDArray[np.generic]

Terms = dict[str, NDArray[np.float64]]
"""Per-sample terms by column of SCORES, for some consecutive samples."""


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
    """Return the share of each sample's positions (one, unless the output is dense) whose largest class is right."""
    right = np.argmax(outputs, axis=axis) == labels
    return np.asarray(right.reshape(len(right), -1).mean(axis=1))


def margin_of(outputs: Array, labels: Array, axis: int = 1) -> NDArray[np.float64]:
    """Return by how much the class of each sample of one label leads the best other one; below 0 where it does not.

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
