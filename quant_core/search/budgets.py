"""The most that plans may cost: by one cost, or by several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from quant_core.search.beam import least_losing_plans
from quant_core.search.boundaries import NO_BOUNDARIES, BoundaryCosts, cheapest_plan
from quant_core.search.candidates import Candidates, candidates_of, sums

__all__ = ["Budget", "even", "mixed", "mixes", "plan_within", "within"]

Array = NDArray[np.float64]

_ROUNDING = 1e-9
"""Sums of prices in another order differ by less than that."""
_STEPS = {1: 1, 2: 8}
"""Steps in which the part of a cost in a mix is changed, by the number of budgets."""
_STEPS_OF_MANY = 4


def within(cost: float, budget: float) -> bool:
    """Return whether a cost is no more than a budget, but for the rounding of sums."""
    return cost <= budget * (1 + _ROUNDING)


@dataclass(frozen=True)
class Budget:
    """The most that a plan may cost, and what plans cost."""

    most: float
    """The limit."""
    costs: Array
    """Cost of each layer at each rung, shape [layers, rungs]."""
    boundaries: BoundaryCosts = NO_BOUNDARIES
    """What it costs besides that neighbours are on different rungs."""

    def allows(self, plans: Candidates) -> NDArray[np.bool_]:
        """Return whether each plan is within it."""
        return np.array([within(spent, self.most) for spent in self.spent(plans)], bool)

    @cached_property
    def scale(self) -> float:
        """What plans cost at most, boundaries aside."""
        return float(self.costs.max(axis=1).sum()) or 1.0

    def spent(self, plans: Candidates) -> Array:
        """Return what each plan costs."""
        return sums(self.costs, plans) + self.boundaries.sums(plans)

    def around(self, plan: Sequence[int]) -> Array:
        """Return the cost of each layer at each rung with its boundaries, while all others stay as in a plan."""
        return self.costs + self.boundaries.around(plan)

    def excess(self, plans: Candidates) -> Array:
        """Return by how much each plan is above the limit, as a share of `scale`; negative within it."""
        return (self.spent(plans) - self.most) / self.scale


def mixes(count: int) -> list[tuple[float, ...]]:
    """Return the parts that so many costs have in each mix of them; each mix adds up to 1."""
    steps = _STEPS.get(count, _STEPS_OF_MANY)
    return [
        tuple(part / steps for part in parts)
        for parts in product(range(steps + 1), repeat=count)
        if sum(parts) == steps
    ]


def even(count: int) -> tuple[float, ...]:
    """Return the parts of a mix in which all costs count alike."""
    return (1 / count,) * count


def mixed(budgets: Sequence[Budget], parts: Sequence[float]) -> tuple[Array, BoundaryCosts]:
    """Return costs by layer and rung, and boundaries, of a mix of costs; of one budget they are its own."""
    if len(budgets) == 1:
        return budgets[0].costs, budgets[0].boundaries
    weights = [part / budget.scale for part, budget in zip(parts, budgets, strict=True)]
    costs = sum(weight * budget.costs for weight, budget in zip(weights, budgets, strict=True))
    apart = [(weight, one.boundaries) for weight, one in zip(weights, budgets, strict=True) if len(one.boundaries.ends)]
    if not apart:
        return np.asarray(costs), NO_BOUNDARIES
    ends = np.concatenate([between.ends for _, between in apart])
    return np.asarray(costs), BoundaryCosts(ends, np.concatenate([weight * between.costs for weight, between in apart]))


def plan_within(budgets: Sequence[Budget], narrowest: bool = False) -> tuple[int, ...]:
    """Return the plan that is farthest within its budgets, or misses them by least: by the one that it uses most of.

    Of one budget that is the cheapest plan; of several, one of those that a mix of their costs has as the cheapest or,
    where none of these is within all, what a search finds. Of rungs that cost the same a layer has the wider, or the
    narrowest.
    """
    cheapest = [cheapest_plan(*mixed(budgets, parts), narrowest) for parts in mixes(len(budgets))]
    plans = candidates_of(cheapest, len(budgets[0].costs))
    if len(budgets) > 1 and _excess(budgets, plans).min() > 0:
        costs = np.array([budget.around(cheapest[0]) for budget in budgets])
        found = least_losing_plans(
            mixed(budgets, even(len(budgets)))[0], costs, np.array([budget.most for budget in budgets])
        )
        plans = np.concatenate([plans, found])
    return tuple(map(int, plans[int(np.argmin(_excess(budgets, plans)))]))


def _excess(budgets: Sequence[Budget], plans: Candidates) -> Array:
    """Return by how much each plan is above the budget that it uses most of."""
    return np.asarray(np.max([budget.excess(plans) for budget in budgets], axis=0))
