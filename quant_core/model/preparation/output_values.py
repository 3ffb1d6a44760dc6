"""What the values of an output are, seen on first samples: its axes, probabilities, and channels of unlike scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph
from quant_core.model.preparation.class_axis import class_source
from quant_core.model.signature import OutputRole, behind_samples

__all__ = ["described_output"]

Values = NDArray[np.float64]


def described_output(
    graph: FloatGraph, singles: Sequence[Mapping[str, NDArray[np.generic]]], batch: int, leading: int, role: OutputRole
) -> OutputRole:
    """Return the role of an output with what its values on first samples tell.

    Args:
        graph: the prepared float model.
        singles: outputs by name, of one sample each.
        batch: samples that the model takes at once.
        leading: axes of samples and steps in front of the others.
        role: what is known of it before.

    """
    found = [values[role.name] for values in singles if role.name in values]
    if not found:
        return replace(role, fails="it is no tensor")
    shapes = {array.shape for array in found}
    axis = _samples_axis(found[0].shape, batch) if role.axis is None else role.axis
    if axis is None:
        return replace(role, fails=f"it has no axis for the samples (shape {list(found[0].shape)} for one)")
    if len(shapes) > 1:
        return replace(role, axis=axis, fails=f"its shape changes from sample to sample ({_listed(shapes)})")
    if found[0].dtype.kind != "f":
        return replace(role, axis=axis)
    values = np.stack([np.moveaxis(array, axis, 0)[0] for array in found]).astype(np.float64)
    values = values.reshape(len(values), *(1,) * (leading - 1), *values.shape[1:])  # as one step of sequences
    finite = values[np.isfinite(values)]
    role = replace(role, axis=axis, power=float(np.mean(finite**2)) if finite.size else 0.0)
    return _with_parts(_with_classes(role, graph, values, leading), values)


def _samples_axis(shape: tuple[int, ...], batch: int) -> int | None:
    """Return the axis of the samples: the first as long as the batch, or one of a multiple of it in front."""
    fitting = [at for at, size in enumerate(shape) if size == batch]
    return fitting[0] if fitting else (0 if shape and shape[0] % batch == 0 else None)


def _with_classes(role: OutputRole, graph: FloatGraph, values: Values, leading: int) -> OutputRole:
    """Return the role with its axis of classes, where one shows: by its sums, its operators, or as the only one."""
    summing = [at for at in range(1, values.ndim) if values.shape[at] > 1 and _are_probabilities(values, at)]
    known = role.classes
    if known is None and summing:
        known = max(summing, key=lambda at: values.shape[at])
    if known is None:
        source, rank = class_source(graph, role.name), values.ndim - leading + 1
        at = None if source is None else source[0] % rank
        known = None if at is None or at == role.axis else behind_samples(at, role.axis or 0) + leading - 1
    if known is None and values.ndim == leading + 1:
        known = leading
    return replace(role, classes=known, probabilities=known in summing)


def _with_parts(role: OutputRole, values: Values) -> OutputRole:
    """Return the role with the two parts of channels of unlike scale, if there are; of classes one may be just rare."""
    split = None if role.probabilities else _unlike_channels(values)
    if split is None:
        return role
    parts = np.split(values, [split[1]], axis=split[0])
    return replace(role, channels=split[0], split=split[1], part_powers=tuple(float(np.mean(p**2)) for p in parts))


_MOST_CHANNELS = 512

_UNLIKE = 100.0
"""How many times the power of one part of the channels is that of the other, where a score of both shows one only."""


def _unlike_channels(values: NDArray[np.float64]) -> tuple[int, int] | None:
    """The axis and the place that best part the values of samples in two of unlike scale; None where there is none.

    Of both sides' logarithms of power the variance between them is the largest (Otsu, A threshold selection method
    from gray-level histograms, IEEE Transactions on Systems, Man, and Cybernetics 9, 1979), and every channel of one
    side is stronger than all of the other.
    """
    found: dict[float, tuple[int, int]] = {}
    for axis in range(1, values.ndim):
        if 2 <= values.shape[axis] <= _MOST_CHANNELS and np.isfinite(values).all():
            others = tuple(at for at in range(values.ndim) if at != axis)
            powers = np.mean(values**2, axis=others)
            logs = np.log(np.maximum(powers, np.finfo(np.float64).tiny))
            sides = [(logs[:at], logs[at:]) for at in range(1, len(logs))]
            between = [len(a) * len(b) * (a.mean() - b.mean()) ** 2 for a, b in sides]
            at = int(np.argmax(between))
            low, high = sorted(sides[at], key=lambda side: float(side.mean()))
            apart = float(high.mean() - low.mean())
            if apart >= np.log(_UNLIKE) and high.min() > low.max() and powers.min() > 0:
                found.setdefault(apart, (axis, at + 1))
    return found[max(found)] if found else None


def _listed(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in sorted(shapes)[:2])


def _are_probabilities(values: NDArray[np.float64], axis: int) -> bool:
    return bool((values >= 0).all() and np.allclose(values.sum(axis=axis), 1, atol=1e-3))
