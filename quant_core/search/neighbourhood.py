"""Plans that differ from a given one in a layer or two."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import Candidates, candidates_of
from quant_core.search.space import Candidate, Space

__all__ = ["neighbours"]

_SWAPPED = 12
"""Layers on each side that swaps are tried with."""


def neighbours(space: Space, plan: Candidate, losses: NDArray[np.float64], by: Literal[1, -1] = 1) -> Candidates:
    """Plans with one layer narrower (`by` -1: wider), one narrower and one wider, or two that have a boundary narrower.

    Those of least loss, or most loss given back, per cost come first.
    """
    downs, ups = _steps(space, plan, losses, 1), _steps(space, plan, losses, -1)
    single = downs if by == 1 else ups
    swaps = [(down, up) for down in downs[:_SWAPPED] for up in ups[:_SWAPPED] if up[0] != down[0]]
    together = _together(space, plan, by)
    found = np.tile(candidates_of([plan], len(plan)), (len(single) + len(swaps) + len(together), 1))
    for place, moves in enumerate([*((step,) for step in single), *swaps, *together]):
        for layer, rung in moves:
            found[place, layer] = rung
    return found


def _together(space: Space, plan: Candidate, by: int) -> list[tuple[tuple[int, int], ...]]:
    """Moves of two neighbours onto one rung: alone, each may cost more for its boundary than it saves."""
    rungs = range(space.losses.shape[1])
    found = []
    for pair in space.boundaries.ends.tolist():
        to = (max if by == 1 else min)(plan[layer] for layer in pair) + (by if plan[pair[0]] == plan[pair[1]] else 0)
        if to in rungs and not space.fixed & set(pair) and all(math.isfinite(space.losses[one, to]) for one in pair):
            found.append(tuple((layer, to) for layer in pair))
    return found


def _steps(space: Space, plan: Candidate, losses: NDArray[np.float64], by: int) -> list[tuple[int, int]]:
    """Moves of one layer by one rung: down, the cheapest in loss first; up, those that give back most of it first."""
    found, costs = [], space.costs_around(plan)
    for layer, rung in enumerate(plan):
        to = rung + by
        if 0 <= to < losses.shape[1] and math.isfinite(losses[layer, to]):
            saved = by * (costs[layer, rung] - costs[layer, to])
            lost = by * (losses[layer, to] - losses[layer, rung])
            if saved > 0:
                found.append((by * lost / saved, (layer, to)))
    return [move for _, move in sorted(found, key=lambda step: step[0])]
