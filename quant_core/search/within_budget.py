"""The best score within budgets: the search for the least cost within a limit, with the two exchanged.

The beliefs about plans that were not measured are the same, and so are the plans that are looked at: the knapsack's,
and those around the best one known. What is expected of a plan is by how much its error falls below the best one's
(expected improvement; Jones, Schonlau, Welch, Efficient Global Optimization of Expensive Black-Box Functions, 1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from quant_core.search.beam import least_losing_plans
from quant_core.search.candidates import Candidates, candidates_of, sums, unmeasured
from quant_core.search.knapsack import cheapest_plans
from quant_core.search.neighbourhood import neighbours
from quant_core.search.space import Candidate, Measured, Space
from quant_core.search.surrogate import Surrogate

__all__ = ["best_within_budget", "least_losses"]

_WORTH_AN_EVALUATION = 1 / 200
"""Expected gain, as a share of what the best plan loses to the wide one, below which the search is over."""
_LOOKED_AT = 64
"""Plans of the knapsack that are looked at, those of least loss first."""
_SHARPER = 1.05
"""The knapsack is solved again for sums of loss up to that many times the least one found, in finer units."""


def best_within_budget(space: Space, measured: Mapping[Candidate, Measured]) -> Candidate | None:
    """The plan to try next; None where none is worth it. The first one is that of least loss."""
    best = _best(space, measured)
    if best is None:
        return next(
            (plan for plan in [*least_losses(space, space.losses), space.cheapest] if plan not in measured), None
        )
    least = measured[best].error
    # What matters is to predict those plans well that are about as good as the best one.
    predictor = Surrogate(replace(space, limit=least), measured)
    learnt = predictor.losses()
    cheapest = candidates_of(least_losses(space, learnt), len(learnt))
    plans = unmeasured(np.concatenate([cheapest, neighbours(space, best, learnt, -1)]), measured)
    plans = plans[_are_open(space, plans)]
    if not len(plans):
        return None
    gains = _gains(least, *predictor(plans))
    first = int(np.argmax(gains))
    worth = _WORTH_AN_EVALUATION * (least - measured[space.wide].error)
    return tuple(plans[first].tolist()) if worth > 0 and gains[first] >= worth else None


def _best(space: Space, measured: Mapping[Candidate, Measured]) -> Candidate | None:
    """The plan of least error within the budgets, of equal ones the cheapest."""
    known = [plan for plan, found in measured.items() if space.affordable(plan) and math.isfinite(found.error)]
    return min(known, key=lambda plan: (measured[plan].error, space.cost(plan)), default=None)


def _are_open(space: Space, plans: Candidates) -> NDArray[np.bool_]:
    return space.are_affordable(plans) & np.isfinite(sums(space.losses, plans))


def least_losses(space: Space, losses: NDArray[np.float64]) -> list[Candidate]:
    """Plans within the budgets, that of the least sum of losses first; none where each has a loss without bound."""
    if len(space.budgets) > 1:
        return _least_by_several_costs(space, losses)
    found: dict[Candidate, float] = {}
    capacity = float(np.where(np.isfinite(losses), losses, 0.0).max(axis=1).sum())
    while True:
        table = space.costs_around(space.cheapest)
        cheapest = (tuple(plan.tolist()) for plan in cheapest_plans(losses, table, capacity))
        plans = list(islice(filter(space.affordable, cheapest), _LOOKED_AT))
        found |= {plan: _loss(losses, plan) for plan in plans}
        least = min(found.values(), default=0.0)
        if not plans or not least or _SHARPER * least > capacity / 2:
            return sorted(found, key=lambda plan: (found[plan], space.cost(plan)))[:_LOOKED_AT]
        capacity = _SHARPER * least


def _least_by_several_costs(space: Space, losses: NDArray[np.float64]) -> list[Candidate]:
    costs = np.array([budget.around(space.cheapest) for budget in space.budgets])
    plans = least_losing_plans(losses, costs, np.array([budget.most for budget in space.budgets]))
    return [tuple(plan.tolist()) for plan in plans[space.are_affordable(plans)][:_LOOKED_AT]]


def _loss(losses: NDArray[np.float64], plan: Candidate) -> float:
    return float(losses[np.arange(len(plan)), plan].sum())


def _gains(least: float, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much each error is expected to fall below the least one known."""
    return np.array([_expected_gain(least - m, d) for m, d in zip(mean, deviation, strict=True)])


def _expected_gain(ahead: float, deviation: float) -> float:
    """The mean of what a normal value of that mean and deviation has above zero."""
    if deviation <= 0:
        return max(ahead, 0.0)
    z = ahead / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return ahead * 0.5 * math.erfc(-z / math.sqrt(2)) + deviation * density
