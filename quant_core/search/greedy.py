"""The cut by loss per saved cost, and on from there."""

from __future__ import annotations

from collections.abc import Generator

from quant_core.search.bisection import cut
from quant_core.search.improvement import improve
from quant_core.search.space import Candidate, Measured, Space, Strategy

__all__ = ["greedy"]


def greedy(space: Space) -> Strategy:
    """Find the cut, skip the layer that broke the target there, and try what else may fit."""
    found: dict[Candidate, Measured] = {}
    yield from _noted(cut(space, space.prefixes(space.efficient_moves())), found)
    yield from improve(space, found)


def _noted(strategy: Strategy, found: dict[Candidate, Measured]) -> Generator[Candidate, Measured, None]:
    """Run a strategy, and keep what it is sent."""
    try:
        plan = next(strategy)
        while True:
            found[plan] = yield plan
            plan = strategy.send(found[plan])
    except StopIteration:
        return
