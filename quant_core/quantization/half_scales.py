"""Scales of blocks in float16, which takes half the bytes: of 4-bit weights in blocks of 32, a tenth of them all.

They are rounded before codes are chosen, so that codes are the best for the scales that the file has.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.config.quantization import QuantizationConfig
from quant_core.numerics import QParams

__all__ = ["half_scales", "held_in_half", "with_half_scales"]


def with_half_scales(qparams: QParams, config: QuantizationConfig) -> QParams:
    """Return numbers of blocks with scales that float16 holds exactly, others as they are.

    They stay as they are, too, where a scale is beyond the normal numbers of float16.
    """
    if qparams.block is None or not config.has_half_scales or not _is_normal(qparams.scale):
        return qparams
    return replace(qparams, scale=qparams.scale.astype(np.float16).astype(np.float32))


def held_in_half(qparams: QParams, config: QuantizationConfig) -> NDArray[np.float16] | None:
    """Return scales of blocks in float16; None where they are not held so."""
    return half_scales(qparams.scale) if qparams.block is not None and config.has_half_scales else None


def half_scales(scale: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """Return scales in float16; None where it does not hold each of them exactly."""
    if not _is_normal(scale):
        return None
    half = scale.astype(np.float16)
    return half if np.array_equal(half, scale) else None


def _is_normal(scale: NDArray[np.float32]) -> bool:
    limits = np.finfo(np.float16)
    return bool(((scale >= limits.smallest_normal) & (scale <= limits.max)).all())
