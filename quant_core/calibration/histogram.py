"""A histogram that needs no range in advance and merges exactly.

Bins are `2**exponent` wide and aligned at zero, so two histograms of different widths merge by halving the
finer one's resolution until the widths agree: counts are integers and bin edges powers of two, hence the
result is the same bit for bit in whatever order shards are merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.storage.schemas import CALIBRATION

__all__ = ["BINS", "Histogram", "histogram_table", "histograms_from_table"]

BINS = 4096
"""The largest magnitude lies in one of the upper half of this many bins, on its side of zero."""

Counts = NDArray[np.int64 | np.uint32]

# Values that are binned at once, so that what is computed on the way stays in the processor's cache.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Histogram:
    """How often a tensor took which values."""

    low: float
    """Smallest value, exact."""
    high: float
    """Largest value, exact."""
    exponent: int
    """Bins are 2**exponent wide."""
    first_bin: int
    """Number of the first bin in `counts`; bin i holds [i, i + 1) * 2**exponent."""
    counts: Counts
    """Values in each bin: exact, or of a large tensor estimated from some of them, evenly spread."""

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Histogram:
        """The histogram of an array of finite values, at least one."""
        return cls.within(values, float(values.min()), float(values.max()))

    @classmethod
    def within(cls, values: NDArray[np.float32], low: float, high: float, stride: int = 1) -> Histogram:
        """The histogram of an array of which the smallest and the largest value are known.

        Of a large array one value in `stride` will do, which then counts for as many.
        """
        flat = values.ravel(order="K")[::stride]
        # + 0.0 turns -0.0 into 0.0: which of the two is the smaller would depend on their order.
        low, high = low + 0.0, high + 0.0
        exponent = _exponent_for(max(-low, high))
        first, last = (math.floor(math.ldexp(end, -exponent)) for end in (low, high))
        # Scaling by a power of two is exact, so no value strays into a neighbouring bin: in float32 as long as
        # no negative value underflows to zero, from bin -1 to bin 0.
        scale = (np.float64 if low < 0 < exponent else np.float32)(math.ldexp(1.0, -exponent))
        counts = np.zeros(last - first + 1, np.int64)
        for start in range(0, len(flat), _BLOCK):
            bins = np.floor(flat[start : start + _BLOCK] * scale).astype(np.int32)
            bins -= first
            counts += np.bincount(bins, minlength=len(counts))
        counts *= stride
        return cls(low, high, exponent, first, counts)

    @property
    def count(self) -> int:
        """Number of values seen."""
        return int(self.counts.sum())

    @property
    def edges(self) -> NDArray[np.float64]:
        """Bin edges, one more than there are bins."""
        return np.ldexp(
            np.arange(self.first_bin, self.first_bin + len(self.counts) + 1, dtype=np.float64), self.exponent
        )

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both sets of values together."""
        exponent = max(self.exponent, other.exponent)
        mine, theirs = self._coarsened(exponent), other._coarsened(exponent)
        first = min(mine.first_bin, theirs.first_bin)
        last = max(part.first_bin + len(part.counts) for part in (mine, theirs))
        counts = np.zeros(last - first, np.int64)
        for part in (mine, theirs):
            start = part.first_bin - first
            counts[start : start + len(part.counts)] += part.counts
        return Histogram(min(self.low, other.low), max(self.high, other.high), exponent, first, counts)

    def _coarsened(self, exponent: int) -> Histogram:
        if exponent == self.exponent:
            return self
        bins = np.arange(self.first_bin, self.first_bin + len(self.counts)) >> min(exponent - self.exponent, 62)
        starts = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
        counts = np.add.reduceat(self.counts, starts, dtype=np.int64)
        return Histogram(self.low, self.high, exponent, int(bins[0]), counts)

    def quantile(self, share: float) -> float:
        """The value below which that share of values lies: linear inside a bin, never beyond low or high."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.counts)])
        value = float(np.interp(share * cumulative[-1], cumulative, self.edges))
        return min(max(value, self.low), self.high)


def _exponent_for(magnitude: float) -> int:
    """The exponent at which `magnitude` falls into bins BINS/2 .. BINS."""
    if magnitude == 0.0:
        return _SMALLEST_EXPONENT
    return max(math.frexp(magnitude)[1] - (BINS.bit_length() - 1), _SMALLEST_EXPONENT)


# Below this, 2**-exponent would overflow float32.
_SMALLEST_EXPONENT = -120


def histogram_table(found: Mapping[str, Histogram]) -> pa.Table:
    """Histograms by tensor as a table of schema CALIBRATION."""
    columns = {
        "tensor": list(found),
        "min": [histogram.low for histogram in found.values()],
        "max": [histogram.high for histogram in found.values()],
        "count": [histogram.count for histogram in found.values()],
        "exponent": [histogram.exponent for histogram in found.values()],
        "first_bin": [histogram.first_bin for histogram in found.values()],
        "histogram": _lists([histogram.counts for histogram in found.values()]),
    }
    place = CALIBRATION.get_field_index("histogram")
    field = CALIBRATION.field(place).with_type(columns["histogram"].type)
    return pa.Table.from_pydict(columns, schema=CALIBRATION.set(place, field))


def _lists(arrays: Sequence[Counts]) -> pa.ListArray:
    """The arrays as a column, in the least memory: of thousands of tensors it is the largest thing a run holds."""
    ends = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    most = max((int(array.max(initial=0)) for array in arrays), default=0)
    counts = np.empty(ends[-1], np.uint32 if most <= np.iinfo(np.uint32).max else np.int64)
    for start, array in zip(ends, arrays, strict=False):
        counts[start : start + len(array)] = array
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(counts))


def histograms_from_table(table: pa.Table) -> dict[str, Histogram]:
    """The inverse of `histogram_table`."""
    return {
        row["tensor"].as_py(): Histogram(
            low=row["min"].as_py(),
            high=row["max"].as_py(),
            exponent=row["exponent"].as_py(),
            first_bin=row["first_bin"].as_py(),
            counts=row["histogram"].values.to_numpy(),
        )
        for row in (dict(zip(table.column_names, values, strict=True)) for values in zip(*table.columns, strict=True))
    }
