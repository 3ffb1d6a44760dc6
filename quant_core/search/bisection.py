"""The cut in a row of ever narrower plans, in log N steps."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

import numpy as np
from numpy.typing import NDArray

from quant_core.search.space import Candidate, Measured, Prefixes, Space, Strategy

__all__ = ["bisect", "cut"]


def bisect(space: Space) -> Strategy:
    """The cut that `linear` finds, where error grows with every move."""
    yield from cut(space, space.prefixes(space.ranking))


def cut(space: Space, plans: Prefixes) -> Generator[Candidate, Measured, None]:
    """Find where, in a row of plans, one meets the target and the next one misses; the first is known to meet it.

    Steps go where the target would be reached if errors added up as losses do (regula falsi), and to the middle
    whenever two steps in a row have not halved what is left: at most 3 log2 N of them. Both sides of the cut
    have been evaluated. Where error does not grow with every move, this may be another such cut than the first one.

    Within budgets the cut is known: the first plan within them is measured, and no other.
    """
    if space.budgets:
        affordable = next((plan for plan in plans if space.affordable(plan)), space.cheapest)
        if affordable not in space.known:
            yield affordable
        return
    last = space.known.get(plans[-1]) or (yield plans[-1])
    if last.met:
        return
    reached = plans.losses
    meets, misses = 0, len(plans) - 1
    error = {meets: space.known[plans[0]].error, misses: last.error}
    widths = [math.inf, math.inf]
    while misses - meets > 1:
        stalled = misses - meets > widths[-2] / 2
        step = (meets + misses) // 2 if stalled else _crossing(reached, error, meets, misses, space.limit)
        widths.append(misses - meets)
        measured = space.known.get(plans[step]) or (yield plans[step])
        error[step] = measured.error
        if measured.met:
            meets = step
        else:
            misses = step


def _crossing(
    reached: NDArray[np.float64],
    error: Mapping[int, float],
    meets: int,
    misses: int,
    limit: float,
) -> int:
    """The place strictly between two known ones at which the error is expected to reach the limit."""
    rise, span = error[misses] - error[meets], float(reached[misses]) - float(reached[meets])
    if not (0 < rise < math.inf and 0 < span < math.inf):
        return (meets + misses) // 2
    share = (limit - error[meets]) / rise
    target = reached[meets] + min(max(share, 0.0), 1.0) * span
    step = int(np.searchsorted(reached, target, side="right")) - 1
    return min(max(step, meets + 1), misses - 1)
