"""The ways in which a weight may become codes, of which the best for its layer is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.calibration.weight_ranges import values_by_scale
from quant_core.config.quantization import QuantizationConfig
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.numerics import QParams, dequantize, quantize, spread_along
from quant_core.quantization.half_scales import with_half_scales
from quant_core.quantization.rounding.gptq import second_order_codes
from quant_core.quantization.rounding.hqq import half_quadratic_qparams
from quant_core.quantization.rounding.unfolding import Unfolding
from quant_core.quantization.weights import Rounding, Weight, WeightKind, weight_qparams

__all__ = ["nearest_weights", "rounding_error", "second_order_weight"]

_ROWS = 1 << 15
"""Groups of values that a grid is fitted to at once."""
_FITTED = " on a fitted grid"
"""What the rounding of such a weight is called."""


def nearest_weights(
    graph: FloatGraph, layer: Layer, values: NDArray[np.float32], kind: WeightKind, config: QuantizationConfig
) -> Iterator[Weight]:
    """A layer's weight rounded to nearest, on each grid that the configuration lets choose from."""
    qparams, axis = weight_qparams(graph, layer, values, kind, config)
    fits = config.fits_grids(kind.dtype)
    if not fits or config.round_weights == "auto":
        yield Weight(quantize(values, qparams, axis), qparams, axis)
    if fits:
        fitted = with_half_scales(_fitted(values, qparams, axis, not kind.has_zero_points(config)), config)
        yield Weight(quantize(values, fitted, axis), fitted, axis, rounding=Rounding(f"nearest{_FITTED}"))


def _fitted(values: NDArray[np.float32], start: QParams, axis: int | None, symmetric: bool) -> QParams:
    """A grid like `start`, fitted to most of the values."""
    groups = values_by_scale(values, axis, start.block)
    rows, scale, zero_point = groups.reshape(-1, groups.shape[-1]), start.scale.ravel(), start.zero_point.ravel()
    parts = [
        half_quadratic_qparams(rows[part], replace(start, scale=scale[part], zero_point=zero_point[part]), symmetric)
        for part in (slice(at, at + _ROWS) for at in range(0, len(rows), _ROWS))
    ]
    shape = start.scale.shape
    return replace(
        start,
        scale=np.concatenate([part.scale for part in parts]).reshape(shape),
        zero_point=np.concatenate([part.zero_point for part in parts]).reshape(shape),
    )


def second_order_weight(
    unfolding: Unfolding, values: NDArray[np.float32], weight: Weight, moments: NDArray[np.float64]
) -> Weight:
    """A weight on the same grid with codes that are chosen for the layer's output (see `gptq`)."""
    dtype = weight.qparams.dtype
    each = [
        unfolding.rows(np.broadcast_to(spread_along(part, weight.qparams, weight.axis, values.shape), values.shape))
        for part in (weight.qparams.scale, weight.qparams.zero_point)
    ]
    codes = [
        second_order_codes(rows, moment, QParams(dtype, scale, zero_point))
        for rows, moment, scale, zero_point in zip(unfolding.rows(values), moments, *each, strict=True)
    ]
    method = weight.rounding.method.replace("nearest", "second order")
    folded = unfolding.folded(np.stack(codes)).astype(dtype.numpy_type)
    return replace(weight, codes=folded, rounding=Rounding(method))


def rounding_error(values: NDArray[np.float32], weight: Weight) -> NDArray[np.float64]:
    """Return what each value loses to its code."""
    return np.asarray(values.astype(np.float64) - dequantize(weight.codes, weight.qparams, weight.axis))
