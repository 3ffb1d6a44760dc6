"""Scales of blocks and of channels in float16, which takes half the bytes: of weights in blocks of 32, a tenth of all.

They are rounded before codes are chosen, so that codes are the best for the scales that the file has.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.config.quantization import QuantizationConfig
from quant_core.numerics import QParams

__all__ = ["half_scales", "held_in_half", "with_half_scales"]

_NORMAL = np.finfo(np.float16).smallest_normal


def with_half_scales(qparams: QParams, config: QuantizationConfig) -> QParams:
    """Return numbers of blocks or channels with scales that float16 holds exactly, others as they are.

    Those of blocks stay as they are, too, where a scale is beyond the normal numbers of float16. Of channels the
    smallest, which are those of next to no weights, are rounded up: by 6e-8 at most.
    """
    if not config.halves_scales(qparams.scale.size, qparams.block) or (qparams.scale > np.finfo(np.float16).max).any():
        return qparams
    if qparams.block is not None and (qparams.scale < _NORMAL).any():
        return qparams
    half = qparams.scale.astype(np.float16)
    is_low = (half < qparams.scale) & (half < _NORMAL)
    half = np.where(is_low, np.nextafter(half, np.float16(np.inf)), half)
    return replace(qparams, scale=half.astype(np.float32))


def held_in_half(qparams: QParams, config: QuantizationConfig) -> NDArray[np.float16] | None:
    """Return scales of blocks or channels in float16; None where they are not held so."""
    return half_scales(qparams.scale) if config.halves_scales(qparams.scale.size, qparams.block) else None


def half_scales(scale: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """Return scales in float16; None where it does not hold each of them exactly."""
    if (scale > np.finfo(np.float16).max).any():
        return None
    half = scale.astype(np.float16)
    return half if np.array_equal(half, scale) else None
