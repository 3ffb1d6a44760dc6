"""Scales that are powers of two: multiplying by them is a shift, which fixed-point hardware has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.numerics import QParams

__all__ = ["multiples", "power_of_two", "round_up"]


def power_of_two(qparams: QParams, nearest: bool) -> QParams:
    """The same zero point with each scale rounded up to a power of two, or to the nearest one in exponent.

    Rounded up, all that was in the range stays in it. To the nearest is what AMD Quark does (`scale2pos`, Quark
    0.13) also under the name NonOverflow; there up to 29% of the range saturates.
    """
    if nearest:
        exponents = np.rint(np.log2(qparams.scale.astype(np.float64))).astype(np.int64)
        return replace(qparams, scale=np.ldexp(np.float32(1), exponents))
    return replace(qparams, scale=round_up(qparams.scale))


def round_up(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The smallest power of two that is not less than each scale; 0 stays 0."""
    mantissas, exponents = np.frexp(scales)
    powers = np.ldexp(np.float32(1), np.where(mantissas > 0.5, exponents, exponents - 1))
    return np.where(scales > 0, powers, 0).astype(np.float32)


def multiples(start: QParams) -> list[QParams]:
    """Return what Quark's MinMSE chooses among: 2, 1, 1/2, 1/4 and 1/8 times a starting scale, the zero point kept."""
    factors = np.ldexp(np.float32(1), np.arange(1, -4, -1))
    return [replace(start, scale=np.asarray(start.scale * factor, np.float32)) for factor in factors]
