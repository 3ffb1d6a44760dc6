"""Times calls against each other on a machine that is never quite idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["NO_TIME", "Timing", "timed"]

_TURN = 1e-3
"""Seconds of a turn, at least: so many calls are made in a row that the clock can tell."""
_FEWEST, _MOST = 5, 400
"""Turns of each call."""


@dataclass(frozen=True)
class Timing:
    """How long one call takes, in milliseconds."""

    median: float
    """Over turns: what a user sees."""
    fastest: float
    """Of all turns: what it takes when nothing else is in the way, for comparing small things."""
    turns: int
    """How often it was its turn."""


NO_TIME = Timing(0.0, 0.0, 0)


def timed(calls: Sequence[Callable[[], object]], seconds: float) -> list[Timing]:
    """Time some calls in turns for about `seconds` each, so that what slows the machine for a while slows all."""
    repeats = [max(round(_TURN / _once(call)), 1) for call in calls]
    turns = [[_turn(call, repeat) for call, repeat in zip(calls, repeats, strict=True)]]
    slowest = max((took * repeat for took, repeat in zip(turns[0], repeats, strict=True)), default=1.0)
    for _ in range(min(max(int(seconds / slowest), _FEWEST), _MOST) - 1):
        turns.append([_turn(call, repeat) for call, repeat in zip(calls, repeats, strict=True)])
    return [
        Timing(1e3 * float(np.median(column)), 1e3 * float(column.min()), len(column)) for column in np.array(turns).T
    ]


def _once(call: Callable[[], object]) -> float:
    call()  # the first time memory is taken and kernels are set up
    return min(_turn(call, 1) for _ in range(3))


def _turn(call: Callable[[], object], repeat: int) -> float:
    began = time.perf_counter()
    for _ in range(repeat):
        call()
    return max((time.perf_counter() - began) / repeat, 1e-9)
