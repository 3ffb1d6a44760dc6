"""From the values a tensor was seen to take to the scale and zero point of a type: one function a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from quant_core.calibration.distortion import divergence, squared_error
from quant_core.calibration.histogram import Histogram
from quant_core.calibration.power_of_two import multiples, power_of_two
from quant_core.config.quantization import QuantizationConfig
from quant_core.numerics import QParams, choose_qparams
from quant_core.precision import DataType

__all__ = ["METHODS", "RangeMethod", "range_method"]

RangeMethod = Callable[[Histogram, DataType, bool], QParams]
"""Chooses scale and zero point from (values seen, type, whether the zero point is 0)."""

Loss = Callable[[Histogram, QParams], float]

_OCTAVES = 8
"""How far an end of a range may be drawn in: to 1/256 of the extreme value."""


def minmax(histogram: Histogram, dtype: DataType, symmetric: bool) -> QParams:
    """Everything that was seen."""
    return choose_qparams(histogram.low, histogram.high, dtype, symmetric)


def percentile(histogram: Histogram, dtype: DataType, symmetric: bool, share: float) -> QParams:
    """The central `share` percent of the values, each tail cut by half of the rest, for types of up to 8 bits.

    A type of 16 bits covers everything: its steps are so fine that cutting off even one value in 100,000
    costs more than it saves.
    """
    if dtype.bits > 8:
        return minmax(histogram, dtype, symmetric)
    tail = (100 - share) / 200
    return choose_qparams(histogram.quantile(tail), histogram.quantile(1 - tail), dtype, symmetric)


def mse(histogram: Histogram, dtype: DataType, symmetric: bool) -> QParams:
    """The range of least expected squared error.

    Choukroun et al., "Low-bit quantization of neural networks for efficient inference" (2019), with a search over
    both ends where the range need not be symmetric.
    """
    return _least(squared_error, histogram, dtype, symmetric, first_steps=1 / 4)


def entropy(histogram: Histogram, dtype: DataType, symmetric: bool) -> QParams:
    """The range whose codes tell most about the values (see `divergence`), for types of up to 8 bits.

    A type of 16 bits covers everything: its codes are finer than the histogram's bins.
    """
    if dtype.bits > 8:
        return minmax(histogram, dtype, symmetric)
    return _least(_divergence_of_coarse, histogram, dtype, symmetric, first_steps=1 / 8)


def _divergence_of_coarse(histogram: Histogram, qparams: QParams) -> float:
    # Codes finer than bins lose nothing that the histogram could show.
    return np.inf if qparams.scale < 2.0**histogram.exponent else divergence(histogram, qparams)


def _least(loss: Loss, histogram: Histogram, dtype: DataType, symmetric: bool, first_steps: float) -> QParams:
    """The range of least loss: of one magnitude on both sides, or each end drawn in with the other held.

    Ends are tried in steps of so many octaves, then in sixteenths of one about the best of them.
    """

    def cost(low: float, high: float) -> float:
        return loss(histogram, choose_qparams(low, high, dtype, symmetric))

    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric and dtype.signed:
        return choose_qparams(0, _drawn_in(max(-low, high), first_steps, partial(cost, 0)), dtype, symmetric)
    upper, lower = high, low
    for _ in range(2):
        upper = _drawn_in(high, first_steps, partial(cost, lower))
        lower = _drawn_in(low, first_steps, partial(cost, high=upper))
    return choose_qparams(lower, upper, dtype, symmetric)


def _drawn_in(end: float, first_steps: float, cost: Callable[[float], float]) -> float:
    """The least costly share of an end."""
    if not end:
        return end
    octaves = min(np.arange(0, _OCTAVES, first_steps), key=lambda octaves: cost(end * 2**-octaves))
    near = octaves + np.arange(-3, 4) / 16
    return float(end * 2 ** -min(near[near >= 0], key=lambda octaves: cost(end * 2**-octaves)))


def pow2_nonoverflow(histogram: Histogram, dtype: DataType, symmetric: bool, nearest: bool) -> QParams:
    """Everything that was seen, the scale rounded up to a power of two (to the nearest, as Quark does, if asked)."""
    return power_of_two(minmax(histogram, dtype, symmetric), nearest)


def pow2_minmse(histogram: Histogram, dtype: DataType, symmetric: bool, nearest: bool) -> QParams:
    """The power-of-two scale of least expected squared error among those near the one of `pow2_nonoverflow`.

    To round as Quark is to choose as Quark, which reckons with -127 as the smallest code of a symmetric int8.
    """
    start = pow2_nonoverflow(histogram, dtype, symmetric, nearest)
    balanced = nearest and symmetric and dtype.signed
    return min(multiples(start), key=partial(squared_error, histogram, balanced=balanced))


METHODS: Mapping[str, Callable[[QuantizationConfig], RangeMethod]] = {
    "minmax": lambda config: minmax,
    "percentile": lambda config: partial(percentile, share=config.percentile),
    "entropy": lambda config: entropy,
    "mse": lambda config: mse,
    "pow2-nonoverflow": lambda config: partial(pow2_nonoverflow, nearest=config.power_of_two_rounding == "nearest"),
    "pow2-minmse": lambda config: partial(pow2_minmse, nearest=config.power_of_two_rounding == "nearest"),
}
"""By the name the user gives, what makes the method of its settings."""


def range_method(config: QuantizationConfig) -> RangeMethod:
    """The method a configuration asks for."""
    return METHODS[config.calibrate](config)
