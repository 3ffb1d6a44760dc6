"""Goes on from the best plan known: the plan to try next is the one that is expected to save the most.

Expected is what a plan would save, times the chance that it meets the target (expected improvement under a
constraint; Gardner et al., Bayesian Optimization with Inequality Constraints, 2014). Two kinds of plans are looked
at: the cheapest ones for each sum of losses, and those that differ from the best known one in a layer or two. What
is gained within a budget is score, and has a module of its own.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import unmeasured
from quant_core.search.knapsack import cheapest_plans
from quant_core.search.neighbourhood import neighbours
from quant_core.search.space import Candidate, Measured, Space, Strategy
from quant_core.search.surrogate import Surrogate
from quant_core.search.within_budget import best_within_budget

__all__ = ["chances", "improve", "knapsack"]

_WORTH_AN_EVALUATION = 1 / 1000
"""Expected saving, as a share of all that could be saved, below which the search is over."""
_BEYOND = 3.0
"""Plans whose predicted error is that many times what the limit leaves are not looked at."""


def knapsack(space: Space) -> Strategy:
    """Predict, measure what promises most, and predict again."""
    yield from improve(space, {})


def improve(space: Space, found: Mapping[Candidate, Measured]) -> Generator[Candidate, Measured, None]:
    """Go on from what is known and what was found, until the evaluations are used up or the next is not worth it."""
    measured = {**space.known, **found}
    promising = best_within_budget if space.budgets else _most_promising
    for _ in range(space.evaluations):
        plan = promising(space, measured)
        if plan is None:
            return
        measured[plan] = yield plan


def _most_promising(space: Space, measured: Mapping[Candidate, Measured]) -> Candidate | None:
    predictor = Surrogate(space, measured)
    best = min((plan for plan, found in measured.items() if found.met), key=space.cost)
    most = space.cost(best)
    learnt = predictor.losses()
    room = _BEYOND * (space.limit - measured[space.wide].error) / predictor.factor
    capacity = min(room, float(_finite_maxima(learnt).sum()))
    found = [cheapest_plans(learnt, costs, capacity) for costs in _cost_tables(space, best)]
    plans = np.concatenate([*found, neighbours(space, best, learnt)])
    plans = unmeasured(plans[space.costs_of(plans) < most], measured)
    if not len(plans):
        return None
    mean, deviation = predictor(plans)
    gains = (most - space.costs_of(plans)) * chances(space.limit, mean, deviation)
    first = int(np.argmax(gains))
    worth = _WORTH_AN_EVALUATION * (space.cost(space.wide) - space.cost(space.cheapest))
    return tuple(plans[first].tolist()) if gains[first] >= worth else None


def _cost_tables(space: Space, best: Candidate) -> list[NDArray[np.float64]]:
    """Costs by layer and rung that the knapsack goes by: a sum over layers is all it can do.

    So boundaries are left out, or are those that a layer has with its neighbours in the best plan, or in the cheapest
    one. Whatever comes out is compared by what it costs with its own boundaries.
    """
    if not len(space.boundaries.ends):
        return [space.costs]
    return [space.costs, space.costs_around(best), space.costs_around(space.cheapest)]


def _finite_maxima(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.where(np.isfinite(losses), losses, 0.0).max(axis=1))


def chances(limit: float, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability that an error is within the limit."""
    return np.array(
        [
            0.5 * math.erfc((m - limit) / (d * math.sqrt(2))) if d > 0 else float(m <= limit)
            for m, d in zip(mean, deviation, strict=True)
        ]
    )
