"""Tensors with outliers: a few values so large that the steps of a range that holds them are coarse for all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from quant_core.calibration.histogram import Histogram, histograms_from_table
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer

__all__ = ["BULK", "LEAST_RATIO", "TensorSpread", "tensor_spreads", "weight_spreads"]

BULK = 0.999
"""The share of values that counts as their bulk."""
LEAST_RATIO = 4.0
"""From here on the largest value is an outlier: a range that holds it costs all others two bits."""


@dataclass(frozen=True)
class TensorSpread:
    """How far the largest value of a tensor is from the bulk of its values."""

    tensor: str
    """Its name."""
    largest: float
    """Largest magnitude seen in calibration."""
    bulk: float
    """The magnitude that 99.9% of the values are within, or all but one where they are few."""
    ratio: float
    """Their ratio; 1 for a tensor of zeros."""

    @property
    def has_outliers(self) -> bool:
        """Whether the ratio is so large that it costs bits."""
        return self.ratio >= LEAST_RATIO

    @property
    def bits(self) -> float:
        """Bits that a range that holds every value costs the bulk."""
        return math.log2(self.ratio)


def tensor_spreads(calibration: pa.Table) -> list[TensorSpread]:
    """Return the spread of each tensor of a table of schema CALIBRATION, the widest first."""
    found = [_spread(name, histogram) for name, histogram in histograms_from_table(calibration).items()]
    return sorted(found, key=lambda spread: -spread.ratio)


def weight_spreads(graph: FloatGraph, layers: Sequence[Layer]) -> list[TensorSpread]:
    """Return the spread of each layer's weights, the widest first."""
    names = dict.fromkeys(weight for layer in layers for weight in layer.weights)
    values = {name: np.asarray(graph.constant(name), np.float32) for name in names}
    found = [_spread(name, Histogram.of(weight)) for name, weight in values.items() if weight.size]
    return sorted(found, key=lambda spread: -spread.ratio)


def _spread(name: str, histogram: Histogram) -> TensorSpread:
    largest = max(-histogram.low, histogram.high)
    bulk = _magnitude_at(histogram, BULK)
    return TensorSpread(name, largest, bulk, max(largest / bulk, 1.0) if bulk else 1.0)


def _magnitude_at(histogram: Histogram, share: float) -> float:
    """Return the upper end of the bin of magnitudes that this share of the values is within."""
    bins = np.arange(len(histogram.counts)) + histogram.first_bin
    # Bins are aligned at zero: bin -1 has the magnitudes of bin 0.
    counts = np.bincount(np.where(bins < 0, -1 - bins, bins), weights=histogram.counts)
    # Of less than a thousand values all but the largest are the bulk.
    wanted = max(min(share * histogram.count, histogram.count - 1), 1)
    reached = int(np.searchsorted(np.cumsum(counts), wanted))
    largest = max(-histogram.low, histogram.high)
    return min(math.ldexp(reached + 1.0, histogram.exponent), largest)
