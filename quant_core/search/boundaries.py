"""What plans cost where neighbouring layers are on different rungs, as arrays; and the cheapest plan there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_core.precision import Precision
from quant_core.search.candidates import Candidates, in_parts
from quant_core.search.cost import CostModel

__all__ = ["NO_BOUNDARIES", "BoundaryCosts", "cheapest_plan"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BoundaryCosts:
    """Costs of pairs of layers, beside those of each layer."""

    ends: NDArray[np.int64]
    """Numbers of the two layers of each pair, shape [pairs, 2]."""
    costs: Array
    """By pair and the rungs of both, shape [pairs, rungs, rungs]; 0 where both are the same."""

    @classmethod
    def of(cls, cost: CostModel, names: Sequence[str], ladder: Sequence[Precision]) -> BoundaryCosts:
        """Return the boundaries of a cost model, for layers and rungs in this order."""
        number = {name: at for at, name in enumerate(names)}
        ends = [(number[one.first], number[one.second]) for one in cost.boundaries]
        costs = [[[one.prices.get((p, q), 0.0) for q in ladder] for p in ladder] for one in cost.boundaries]
        shape = len(ends), len(ladder), len(ladder)
        return cls(np.array(ends, np.int64).reshape(-1, 2), np.array(costs, np.float64).reshape(shape))

    def with_fixed(self, layers: Collection[int], rung: int = 0) -> BoundaryCosts:
        """Return the same with these layers on one rung whatever a plan says."""
        costs = self.costs.copy()
        for pair, (first, second) in enumerate(self.ends.tolist()):
            if first in layers:
                costs[pair] = costs[pair, rung : rung + 1, :]
            if second in layers:
                costs[pair] = costs[pair, :, rung : rung + 1]
        return BoundaryCosts(self.ends, costs)

    def sums(self, plans: Candidates) -> Array:
        """Return what the boundaries of each plan cost."""
        pairs, (first, second) = np.arange(len(self.ends)), self.ends.T
        return np.concatenate(
            [np.zeros(0), *(self.costs[pairs, part[:, first], part[:, second]].sum(axis=1) for part in in_parts(plans))]
        )

    def around(self, plan: Sequence[int]) -> Array:
        """Return what the boundaries of each layer cost on each rung while all others stay, shape [layers, rungs]."""
        chosen, (first, second) = np.array(plan), self.ends.T
        pairs, found = np.arange(len(self.ends)), np.zeros((len(chosen), self.costs.shape[1]))
        np.add.at(found, first, self.costs[pairs, :, chosen[second]])
        np.add.at(found, second, self.costs[pairs, chosen[first], :])
        return found


NO_BOUNDARIES = BoundaryCosts(np.zeros((0, 2), np.int64), np.zeros((0, 1, 1)))
"""Of a cost that is a sum over layers."""


def cheapest_plan(costs: Array, boundaries: BoundaryCosts, narrowest: bool = False) -> tuple[int, ...]:
    """Return the plan that costs least.

    `costs` has shape [layers, rungs]. Of rungs that cost the same it has the wider, or the narrowest. With boundaries
    the plan is one that no change of a single layer and of no two neighbours makes cheaper (iterated conditional modes;
    Besag, On the Statistical Analysis of Dirty Pictures, 1986), the best of those that are reached from each plan with
    all layers on one rung and from the cheapest sum over layers.
    """
    last = costs.shape[1] - 1
    alone = last - np.argmin(costs[:, ::-1], axis=1) if narrowest else np.argmin(costs, axis=1)
    if not len(boundaries.ends):
        return tuple(map(int, alone))
    starts = [alone, *(np.full(len(costs), rung) for rung in range(last + 1))]
    plans = np.array([_descended(costs, boundaries, start) for start in starts], np.int8)
    totals = costs[np.arange(len(costs)), plans].sum(axis=1) + boundaries.sums(plans)
    return tuple(map(int, plans[int(np.argmin(totals))]))


def _descended(costs: Array, boundaries: BoundaryCosts, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """A plan after changes of a layer or of two neighbours, each of which makes it cheaper, until none does."""
    plan = start.copy()
    reach = boundaries.ends.tolist()
    groups = [[layer] for layer in range(len(costs))] + reach
    improved = True
    while improved:
        improved = False
        for group in groups:
            for rung in range(costs.shape[1]):
                changed = plan.copy()
                changed[group] = rung
                if _total(costs, boundaries, changed) < _total(costs, boundaries, plan) - 1e-12:
                    plan, improved = changed, True
    return plan


def _total(costs: Array, boundaries: BoundaryCosts, plan: NDArray[np.int64]) -> float:
    row = plan.astype(np.int8)[None]
    return float(costs[np.arange(len(plan)), plan].sum() + boundaries.sums(row)[0])
