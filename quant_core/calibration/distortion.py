"""What a type loses of the values in a histogram: squared error, and divergence of the distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quant_core.calibration.histogram import Histogram
from quant_core.numerics import QParams

__all__ = ["divergence", "squared_error"]

_THINNEST = 2.0**-10
"""Share of a bin's width that the outermost bins have at least, when cut off at the extremes."""


def squared_error(histogram: Histogram, qparams: QParams, balanced: bool = False) -> float:
    """Expected sum of (value - dequantize(quantize(value)))**2, values spread evenly inside each bin.

    `balanced` codes saturate at the same magnitude on both sides: int8 at -127.

    Exact for bins wider and narrower than a step: with u = value / scale and c the code u is rounded or
    saturated to, the integral of (u - c)**2 from 0 to u is c/12 + (u - c)**3 / 3. (Inside the range it grows by
    1/12 a code, which is the well-known step**2 / 12 of rounding.)
    """
    filled = np.flatnonzero(histogram.counts)
    scale, edges = float(qparams.scale), histogram.edges
    edges[0], edges[-1] = histogram.low, histogram.high
    ends = np.stack([edges[filled], edges[filled + 1]])
    ends[1] = np.maximum(ends[1], ends[0] + math.ldexp(_THINNEST, histogram.exponent))
    integral = np.diff(_error_integral(ends / scale, qparams, balanced), axis=0)[0]
    return float(np.sum(histogram.counts[filled] * integral / np.diff(ends, axis=0)[0])) * scale**3


def _error_integral(steps: NDArray[np.float64], qparams: QParams, balanced: bool) -> NDArray[np.float64]:
    smallest, largest = (code - int(qparams.zero_point) for code in qparams.dtype.code_range)
    smallest = -largest if balanced else smallest
    codes = np.minimum(np.maximum(np.rint(steps), smallest), largest)
    error = steps - codes
    return np.asarray(codes / 12 + error * error * error / 3)


def divergence(histogram: Histogram, qparams: QParams) -> float:
    """Kullback-Leibler divergence of the distribution of codes from that of the values.

    As in S. Migacz, "8-bit inference with TensorRT", GTC 2017: P is the histogram with all that saturates added
    to the outermost bins kept; Q has the count of each code spread evenly over the bins that it stands for and that
    are not empty. The bin at 0 is left out, as there: of all values 0 alone always has a code of its own.
    """
    filled = np.flatnonzero(histogram.counts)
    filled = filled[filled + histogram.first_bin != 0]
    if not len(filled):
        return 0.0
    centres = np.ldexp(filled + histogram.first_bin + 0.5, histogram.exponent)
    codes = np.rint(centres / float(qparams.scale)) + int(qparams.zero_point)
    smallest, largest = qparams.dtype.code_range
    counts = histogram.counts[filled].astype(np.float64)
    first, last = np.searchsorted(codes, [smallest, largest + 1])
    if 2 * counts[first:last].sum() < counts.sum():
        return math.inf
    kept, codes = counts[first:last].copy(), codes[first:last]
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    bins = np.diff(starts, append=len(codes))
    spread = np.repeat(np.add.reduceat(kept, starts) / bins, bins)
    spread /= spread.sum()
    kept[0] += counts[:first].sum()
    kept[-1] += counts[last:].sum()
    kept /= kept.sum()
    return float(np.sum(kept * np.log(kept / spread)))
