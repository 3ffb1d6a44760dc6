"""From the values of a constant to its scales: of the whole tensor, of each channel, or of blocks of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.calibration.power_of_two import multiples, power_of_two
from quant_core.config.quantization import QuantizationConfig
from quant_core.numerics import QParams, choose_qparams, dequantize, quantize
from quant_core.precision import DataType

__all__ = ["constant_qparams", "values_by_scale"]

_SHARES = 1 - np.arange(16) / 20
"""Candidate ends of a range as shares of the extreme value: a weight has no outliers as activations have."""


def constant_qparams(
    values: NDArray[np.float32],
    dtype: DataType,
    symmetric: bool,
    config: QuantizationConfig,
    axis: int | None = None,
    block: int | None = None,
) -> QParams:
    """Scales and zero points of a constant: of all values, a channel along `axis`, or `block` values along it.

    Scales are powers of two if activations have such, chosen alike; otherwise from the smallest and the largest
    value, or (`calibrate_weights="mse"`) at the least squared error of the values themselves.
    """
    groups = values_by_scale(values, axis, block)
    # Every range holds 0; of no values, it holds nothing else.
    low, high = (end(axis=-1, initial=0).astype(np.float64) for end in (groups.min, groups.max))
    chosen = choose_qparams(low, high, dtype, symmetric)
    if config.has_power_of_two_scales:
        chosen = power_of_two(chosen, config.power_of_two_rounding == "nearest")
        if config.calibrate == "pow2-minmse":
            chosen = _least_error(groups, multiples(chosen))
    elif config.calibrate_weights == "mse":
        ends = [(np.minimum(low, 0) * share, np.maximum(high, 0) * share) for share in _SHARES]
        chosen = _least_error(groups, [choose_qparams(*both, dtype, symmetric) for both in ends])
    return replace(chosen, block=block)


def values_by_scale(values: NDArray[np.float32], axis: int | None, block: int | None) -> NDArray[np.float32]:
    """The values that share a scale along a new last axis; the axes before it are those of the scale."""
    if axis is None:
        return values.reshape(-1)
    if block is None:
        first = np.moveaxis(values, axis, 0)
        return first.reshape(len(first), math.prod(first.shape[1:]))
    along = np.moveaxis(values, axis, -1)
    padding = -along.shape[-1] % block
    # The last block is filled up with its last value, which leaves its ends as they are.
    along = np.pad(along, [(0, 0)] * (values.ndim - 1) + [(0, padding)], mode="edge")
    return np.moveaxis(along.reshape(*along.shape[:-1], along.shape[-1] // block, block), -2, axis)


def _least_error(groups: NDArray[np.float32], candidates: Sequence[QParams]) -> QParams:
    """Return the candidate of least squared error of each group; the first of equals."""
    errors = np.array([_squared_error(groups, candidate) for candidate in candidates])
    best = errors.argmin(axis=0)[None]
    scale, zero_point = (
        np.take_along_axis(np.array(parts), best, axis=0)[0]
        for parts in ([one.scale for one in candidates], [one.zero_point for one in candidates])
    )
    return QParams(candidates[0].dtype, np.asarray(scale), np.asarray(zero_point))


def _squared_error(groups: NDArray[np.float32], candidate: QParams) -> NDArray[np.float64]:
    each = QParams(candidate.dtype, candidate.scale[..., None], candidate.zero_point[..., None])
    restored = dequantize(quantize(groups, each), each)
    return np.asarray(np.square(restored - groups).sum(axis=-1, dtype=np.float64))
