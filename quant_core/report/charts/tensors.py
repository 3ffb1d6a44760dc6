"""The charts of tensors: the histogram of each, and what every type holds of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from quant_core.calibration.histogram import Histogram, histograms_from_table
from quant_core.report.limits import LISTED, TENSORS, foremost, short
from quant_core.report.text import count_text, number, percent
from quant_core.storage.tables import facts

__all__ = ["tensor_charts"]

Json = dict[str, Any]

_BINS, _FEWEST_BINS, _ALL_BINS = 100, 24, 60_000
"""Bins a histogram is drawn with, and how many all histograms may have together: the page stays small."""


def tensor_charts(plan: Mapping[str, str], layers: pa.Table, calibration: pa.Table) -> list[Json]:
    """Return a chart of every calibrated tensor: its histogram, its range in each type, and the layers that read it.

    `plan` has the precision of each layer, if there is one. Of very many tensors, those at precision boundaries come
    first, then those that layers read.
    """
    readers: dict[str, list[str]] = {}
    for layer in layers.select(["layer", "activations"]).to_pylist():
        for name in layer["activations"]:
            readers.setdefault(name, []).append(layer["layer"])
    known = facts(calibration)
    ranges, carried = known.get("ranges", {}), known.get("carried", {})
    names = foremost(
        calibration.column("tensor").to_pylist(),
        TENSORS,
        lambda name: (len(carried.get(name, ())) > 1, len(readers.get(name, ()))),
    )
    bins = max(_FEWEST_BINS, min(_BINS, _ALL_BINS // max(1, len(names))))
    histograms = histograms_from_table(calibration)
    return [
        _histogram(histograms[name], bins)
        | {
            "name": short(name),
            "readers": [
                f"{short(layer)} ({plan.get(layer, '?')})" if plan else short(layer)
                for layer in readers.get(name, [])[:LISTED]
            ],
            "ranges": _ranges(histograms[name], ranges.get(name, {}), carried.get(name, [])),
        }
        for name in names
    ]


def _histogram(histogram: Histogram, bins: int) -> Json:
    """The histogram with at most that many bins."""
    every = max(1, math.ceil(len(histogram.counts) / bins))
    starts = np.arange(0, len(histogram.counts), every)
    return {
        "min": histogram.low,
        "max": histogram.high,
        "count": count_text(histogram.count),
        "start": float(histogram.edges[0]),
        "width": every * math.ldexp(1.0, histogram.exponent),
        "counts": np.add.reduceat(histogram.counts, starts).tolist() if len(starts) else [],
    }


def _ranges(histogram: Histogram, ranges: Mapping[str, tuple[float, float]], carried: Sequence[str]) -> list[Json]:
    return [
        {
            "type": name,
            "low": low,
            "high": high,
            "used": name in carried,
            "step": number(step := (high - low) / (2 ** int(name.lstrip("uint")) - 1)),
            "cut": percent(cut, 3) if (cut := _outside(histogram, low - step / 2, high + step / 2)) else "none",
        }
        for name, (low, high) in ranges.items()
    ]


def _outside(histogram: Histogram, low: float, high: float) -> float:
    """The share of values that a range cuts off, to the resolution of the histogram."""
    edges = histogram.edges
    outside = histogram.counts[(edges[1:] <= low) | (edges[:-1] > high)].sum()
    return float(outside) / max(1, histogram.count)
