"""The documented rule: one more move at a time until the target would be broken."""

from __future__ import annotations

from itertools import islice

from quant_core.search.bisection import cut
from quant_core.search.space import Space, Strategy

__all__ = ["linear"]


def linear(space: Space) -> Strategy:
    """Go down the ranking and stop at the first plan that misses; as many evaluations as it takes.

    Within budgets: down the ranking until a plan is within them.
    """
    if space.budgets:
        yield from cut(space, space.prefixes(space.ranking))
        return
    for plan in islice(space.prefixes(space.ranking), 1, None):
        if not (space.known.get(plan) or (yield plan)).met:
            return
