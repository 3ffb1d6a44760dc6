"""Fits the grid of a weight to most of its values, not to the few that are farthest out.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (Mobius Labs, 2023): the error of the
weight in a norm with p < 1 is minimised by half-quadratic splitting. In turn, each error is shrunk to what of it
counts as an outlier, and the zero point is fitted to the rest in closed form; no data are needed. Here errors count in
steps of the grid, so that weights of any size are treated alike; zero points are integers, as ONNX has them; several
widths of the range are tried; and the scale is fitted in the same way behind.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.numerics import QParams, choose_qparams

__all__ = ["half_quadratic_qparams"]

_NORM, _BETA, _GROWTH, _ROUNDS = 0.7, 10.0, 1.01, 5
"""p, the weight of the splitting and its growth a round, as in the paper; more rounds than these change nothing."""
_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
"""Widths of the range that are tried, as shares of what the values take."""

Matrix = NDArray[np.float64]


def half_quadratic_qparams(groups: NDArray[np.float32], start: QParams, symmetric: bool) -> QParams:
    """Scales and zero points for values [..., n] of which the last axis shares one, shaped as those of `start`.

    With `symmetric` every zero point stays 0, which a signed type has in the middle of its codes.
    """
    values = groups.astype(np.float64)
    low, high = (end(axis=-1, initial=0) for end in (values.min, values.max))
    best = start
    least = _error(values, start)
    for share in _SHARES:
        grid = choose_qparams(low * share, high * share, start.dtype, symmetric)
        tried = _with_scale(values, grid if symmetric else _with_zero_point(values, grid))
        error = _error(values, tried)
        better = error < least
        least = np.minimum(error, least)
        scale = np.where(better, tried.scale, best.scale)
        best = replace(start, scale=scale, zero_point=np.where(better, tried.zero_point, best.zero_point))
    return best


def _with_zero_point(values: Matrix, grid: QParams) -> QParams:
    """The grid with the zero point that is left when outliers are set aside."""
    scale, zero_point = grid.scale[..., None].astype(np.float64), grid.zero_point[..., None].astype(np.float64)
    beta = _BETA
    for _ in range(_ROUNDS):
        codes = _codes(values, scale, zero_point, grid)
        outliers = _shrunk(values / scale - (codes - zero_point), beta)
        zero_point = np.mean(codes - (values / scale - outliers), axis=-1, keepdims=True)
        beta *= _GROWTH
    smallest, largest = grid.dtype.code_range
    return replace(grid, zero_point=np.clip(np.rint(zero_point[..., 0]), smallest, largest).astype(np.int64))


def _with_scale(values: Matrix, grid: QParams) -> QParams:
    """The grid with the scale that is left when outliers are set aside."""
    scale, zero_point = grid.scale[..., None].astype(np.float64), grid.zero_point[..., None].astype(np.float64)
    beta = _BETA
    for _ in range(_ROUNDS):
        steps = _codes(values, scale, zero_point, grid) - zero_point
        outliers = _shrunk(values / scale - steps, beta) * scale
        power = np.sum(steps * steps, axis=-1, keepdims=True)
        fitted = np.sum(steps * (values - outliers), axis=-1, keepdims=True) / np.where(power > 0, power, 1)
        scale = np.where(fitted > np.finfo(np.float32).tiny, fitted, scale)
        beta *= _GROWTH
    return replace(grid, scale=scale[..., 0].astype(np.float32))


def _codes(values: Matrix, scale: Matrix, zero_point: Matrix, grid: QParams) -> Matrix:
    return np.asarray(np.clip(np.rint(values / scale + zero_point), *grid.dtype.code_range))


def _shrunk(errors: Matrix, beta: float) -> Matrix:
    """The generalised soft threshold of a norm with p < 1: what of each error counts as an outlier."""
    size = np.abs(errors)
    with np.errstate(divide="ignore"):  # of no error nothing is left
        return np.asarray(np.sign(errors) * np.maximum(size - size ** (_NORM - 1) / beta, 0))


def _error(values: Matrix, grid: QParams) -> Matrix:
    """The squared error of each group: that of a layer's output follows from it."""
    scale, zero_point = grid.scale[..., None].astype(np.float64), grid.zero_point[..., None].astype(np.float64)
    restored = (_codes(values, scale, zero_point, grid) - zero_point) * scale
    return np.asarray(np.sum(np.square(values - restored), axis=-1))
