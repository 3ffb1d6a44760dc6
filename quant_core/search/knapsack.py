"""The cheapest plans for every sum of losses: the multiple-choice knapsack problem."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import Candidates

__all__ = ["cheapest_plans", "in_units"]

_UNITS = 4096
_LARGEST_TABLE = 1 << 25


def cheapest_plans(
    losses: NDArray[np.float64], costs: NDArray[np.float64], capacity: float, units: int = _UNITS
) -> Candidates:
    """Plans by ascending sum of losses up to `capacity` and descending cost, each the cheapest for its sum.

    `losses` and `costs` have shape [layers, rungs]. Dynamic programming over sums rounded to a `units`-th of the
    capacity (Kellerer, Pferschy, Pisinger, Knapsack Problems, chapter 11.5), so a sum may be off by half a unit a
    layer, and the largest lie so much beyond the capacity. A rung whose loss is not finite is never taken. Of plans
    that cost the same, one with wider layers wins.
    """
    count = len(losses)
    units = max(min(units, _LARGEST_TABLE // max(count, 1)), 64)
    largest = units + min(count // 2, units)  # to what a sum within the capacity may be rounded
    weights = in_units(losses, capacity, units, largest + 1)
    best = np.zeros(largest + 1)
    taken = np.zeros((count, largest + 1), np.int8)
    for layer in range(count):
        before, best = best, np.full(largest + 1, np.inf)
        for rung, weight in enumerate(weights[layer]):
            found = before[: largest + 1 - weight] + costs[layer, rung]
            cheaper = found < best[weight:]
            best[weight:][cheaper] = found[cheaper]
            taken[layer, weight:][cheaper] = rung
    return _plans(best, taken, weights)


def in_units(losses: NDArray[np.float64], capacity: float, units: int, most: int | None = None) -> NDArray[np.int64]:
    """Return losses rounded to so many units of the capacity, at `most` that many; by default one more than those."""
    unit, most = capacity / units if capacity > 0 else 1.0, units + 1 if most is None else most
    weights = np.where(np.isfinite(losses), np.rint(np.maximum(losses, 0.0) / unit), most)
    return np.minimum(weights, most).astype(np.int64)


def _plans(best: NDArray[np.float64], taken: NDArray[np.int8], weights: NDArray[np.int64]) -> Candidates:
    """The plans of those sums at which the least cost falls."""
    sums = np.flatnonzero(np.isfinite(best) & (np.diff(best, prepend=np.inf) < 0))
    rungs = np.zeros((len(sums), len(taken)), np.int8)
    for layer in range(len(taken) - 1, -1, -1):
        rungs[:, layer] = taken[layer, sums]
        sums = sums - weights[layer, rungs[:, layer]]
    return rungs
