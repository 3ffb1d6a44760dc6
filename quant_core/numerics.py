"""Affine quantization in three pure verbs: choose_qparams, quantize, dequantize.

They compute in float32 exactly as ONNX's QuantizeLinear and DequantizeLinear do, so that a weight
quantized here equals what the operator would have given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_core.precision import DataType

__all__ = ["QParams", "broadcast_along", "choose_qparams", "dequantize", "quantize", "spread_along"]

Scalar = TypeVar("Scalar", bound=np.generic)

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class QParams:
    """How real values map to codes: `code = round(value / scale) + zero_point`."""

    dtype: DataType
    """Type of the codes."""
    scale: NDArray[np.float32]
    """Step between neighbouring codes; a scalar, one per channel, or one per block of a channel."""
    zero_point: NDArray[np.int64]
    """Code of 0.0, shaped as `scale`."""
    block: int | None = None
    """How many values along the axis share a scale, which then has the tensor's rank; None: a channel is one."""


def choose_qparams(low: ArrayLike, high: ArrayLike, dtype: DataType, symmetric: bool) -> QParams:
    """Scale and zero point that cover [low, high] (scalars, or one pair a channel).

    A signed type with `symmetric` has zero point 0 and scale `max(|low|, |high|) / (2**(bits-1) - 1)`;
    otherwise the range, widened to hold 0.0, is spread over all codes. An empty range gets scale 1.
    """
    low, high = np.minimum(np.asarray(low, np.float64), 0), np.maximum(np.asarray(high, np.float64), 0)
    smallest, largest = dtype.code_range
    if symmetric and dtype.signed:
        scale = _positive_scale(np.maximum(-low, high) / largest)
        return QParams(dtype, scale, np.zeros(scale.shape, np.int64))
    scale = _positive_scale((high - low) / (largest - smallest))
    zero_point = np.clip(np.rint(smallest - low / scale.astype(np.float64)), smallest, largest)
    return QParams(dtype, scale, zero_point.astype(np.int64))


def _positive_scale(scale: NDArray[np.float64]) -> NDArray[np.float32]:
    scale = np.where(scale > 0, np.maximum(scale, _SMALLEST_SCALE), 1.0)
    return np.asarray(scale.astype(np.float32))


def broadcast_along(values: NDArray[Scalar], axis: int | None, rank: int) -> NDArray[Scalar]:
    """Reshape per-channel values so that they broadcast along `axis` of a tensor of that rank."""
    if axis is None or values.ndim == 0:
        return values
    return values.reshape([-1 if index == axis % rank else 1 for index in range(rank)])


def spread_along(
    values: NDArray[Scalar], qparams: QParams, axis: int | None, shape: tuple[int, ...]
) -> NDArray[Scalar]:
    """A scale or zero point as it broadcasts over a tensor of that shape."""
    if axis is None or qparams.block is None:
        return broadcast_along(values, axis, len(shape))
    return np.take(values, np.arange(shape[axis]) // qparams.block, axis=axis)


def quantize(values: NDArray[np.float32], qparams: QParams, axis: int | None = None) -> NDArray[np.generic]:
    """Codes of float values: round half to even, saturate. Per channel, or in blocks, along `axis` if given."""
    scale = spread_along(qparams.scale, qparams, axis, values.shape)
    zero_point = spread_along(qparams.zero_point, qparams, axis, values.shape)
    smallest, largest = qparams.dtype.code_range
    with np.errstate(over="ignore"):  # an infinite quotient saturates like any other
        codes: NDArray[np.float32] = np.asarray(values / scale, np.float32)
    # In place, for a weight may be large; exact in float32 as far as codes go.
    np.rint(codes, out=codes)
    codes += zero_point.astype(np.float32)
    return np.clip(codes, smallest, largest, out=codes).astype(qparams.dtype.numpy_type)


def dequantize(codes: NDArray[np.generic], qparams: QParams, axis: int | None = None) -> NDArray[np.float32]:
    """Float values of codes. Per channel, or in blocks, along `axis` if given."""
    scale = spread_along(qparams.scale, qparams, axis, codes.shape)
    zero_point = spread_along(qparams.zero_point, qparams, axis, codes.shape)
    centred = codes.astype(np.int32) - zero_point.astype(np.int32)
    return np.asarray(centred.astype(np.float32) * scale, np.float32)
