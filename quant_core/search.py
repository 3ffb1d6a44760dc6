"""How far down the ranking the search may go.

A strategy is a generator: it yields how many moves of the ranking to make, is sent how that plan did, and
returns the number it settles on. Zero moves is the wide plan, which is known to meet the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

__all__ = ["STRATEGIES", "Bounds", "Measured", "Strategy", "bisect", "linear"]


@dataclass(frozen=True)
class Measured:
    """How a plan did."""

    met: bool
    """Whether it meets the target."""
    error: float
    """Its score on a scale on which the losses of layers about add up (see `metrics.additive`)."""


@dataclass(frozen=True)
class Bounds:
    """What is known before the first step."""

    losses: Sequence[float]
    """Loss of each move, in the order of the ranking."""
    wide: float
    """Error of the wide plan."""
    everything: float
    """Error of the plan with all moves made."""
    limit: float
    """The largest error that meets the target."""


Strategy = Generator[int, Measured, int]


def linear(bounds: Bounds) -> Strategy:
    """The documented rule: one more move at a time until the target would be broken."""
    for count in range(1, len(bounds.losses) + 1):
        if not (yield count).met:
            return count - 1
    return len(bounds.losses)


def bisect(bounds: Bounds) -> Strategy:
    """The same cut in about log2 N steps or fewer, given that all moves together miss the target.

    Steps go where the target would be reached if errors added up as losses do (regula falsi), and to the middle
    whenever two steps in a row have not halved what is left: at most 3 log2 N of them. Both sides of the cut
    have been evaluated: its own plan meets the target, and one more move does not. Where error does not grow
    with every move, this may be another such cut than the first one.
    """
    reached = [0.0, *accumulate(bounds.losses)]
    meets, misses = 0, len(bounds.losses)
    error = {meets: bounds.wide, misses: bounds.everything}
    widths = [math.inf, math.inf]
    while misses - meets > 1:
        stalled = misses - meets > widths[-2] / 2
        step = (meets + misses) // 2 if stalled else _crossing(reached, error, meets, misses, bounds.limit)
        widths.append(misses - meets)
        measured = yield step
        error[step] = measured.error
        if measured.met:
            meets = step
        else:
            misses = step
    return meets


def _crossing(
    reached: Sequence[float],
    error: Mapping[int, float],
    meets: int,
    misses: int,
    limit: float,
) -> int:
    """The number of moves strictly between two known ones at which the error is expected to reach the limit."""
    rise, span = error[misses] - error[meets], reached[misses] - reached[meets]
    if not (0 < rise < math.inf and 0 < span < math.inf):
        return (meets + misses) // 2
    share = (limit - error[meets]) / rise
    target = reached[meets] + min(max(share, 0.0), 1.0) * span
    step = int(np.searchsorted(reached, target, side="right")) - 1
    return min(max(step, meets + 1), misses - 1)


STRATEGIES: Mapping[str, Callable[[Bounds], Strategy]] = {"bisect": bisect, "linear": linear}
"""Strategies by the name the user gives."""
