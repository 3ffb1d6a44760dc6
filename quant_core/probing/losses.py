"""What a layer's narrowing costs a sample: losses between two sets of outputs, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quant_core.scoring.compared import Compared
from quant_core.scoring.terms import divergence

__all__ = ["LOSSES", "Loss", "Outputs"]

Outputs = Sequence[NDArray[np.generic]]


def _squared(wide: Outputs, narrow: Outputs) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        parts = [np.subtract(b, a, dtype=np.float64) for a, b in zip(wide, narrow, strict=True)]
    for part, a, b in zip(parts, wide, narrow, strict=True):
        if np.isnan(part).any():
            part[a == b] = 0.0  # equal infinities
    flat = [part.reshape(len(part), -1) for part in parts]
    errors = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
    return np.asarray(np.square(errors, out=errors).mean(axis=1))


def _mean_square(wide: Outputs, narrow: Outputs, outputs: Compared) -> NDArray[np.float64]:
    if len(wide) == 1 and not outputs.parts:
        return _squared(wide, narrow)
    return _squared(
        *(
            [np.divide(piece, math.sqrt(power or 1.0), dtype=np.float64) for piece, power in outputs.pieces(arrays)]
            for arrays in (wide, narrow)
        )
    )


def _divergence(wide: Outputs, narrow: Outputs, outputs: Compared) -> NDArray[np.float64]:
    classes = outputs.classes
    return divergence(wide[classes.output], narrow[classes.output], classes.axis, classes.probabilities)


def _distance(reference: Outputs, narrow: Outputs, outputs: Compared) -> NDArray[np.float64]:
    return np.sqrt(_squared(reference, narrow) * sum(math.prod(array.shape[1:]) for array in narrow))


Loss = Callable[[Outputs, Outputs, Compared], NDArray[np.float64]]
"""Takes reference outputs, outputs with one layer narrowed (shape [n, ...] each) and what is compared of them; returns
one value a sample."""

LOSSES: Mapping[str, Loss] = {
    "mse": _mean_square,
    "kl": _divergence,
    "l2-float": _distance,
}
"""Losses by name. The reference is the model that the search starts from or, in the documented rule's `l2-float`, the
float model."""
