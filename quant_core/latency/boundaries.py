"""What boundaries between precisions cost, from times of whole models whose layers have random precisions.

The time of a mix is taken to be a sum over its layers and over the pairs of neighbours that differ. Where one reads
what a layer of another precision wrote, values are converted, and often the layer that wrote them is not fused into an
integer kernel any more. So for each pair of precisions a boundary's price is a combination of three numbers: 1, the
values handed over, and what the first layer takes; each layer and boundary may be off from that by some amount of its
own. All of it is linear, and fit by least squares with a Gaussian prior on each coefficient (ridge regression; Bishop,
Pattern Recognition and Machine Learning, chapter 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant_core.latency.neighbours import Neighbours
from quant_core.precision import Precision, PrecisionPlan
from quant_core.search.cost import Boundary, CostModel

__all__ = ["with_boundaries"]

_NOISE = 0.015
"""Standard deviation of a model's time, as a share of it."""
_SHARED, _LAYER, _OWN = 2.0, 0.5, 0.5
"""Standard deviations of what boundaries have in common, of a layer and of a boundary, in times of a mean layer."""
_UNIFORM_NOISE = 1e-4
"""Of a model with all layers at one precision, whose time the prices add up to already."""

Array = NDArray[np.float64]
Mixes = Sequence[tuple[PrecisionPlan, float]]


def with_boundaries(cost: CostModel, neighbours: Sequence[Neighbours], mixes: Mixes) -> CostModel:
    """Return prices that agree with the times of some mixes as well.

    Args:
        cost: prices of layers, right for plans of one precision.
        neighbours: the pairs that may have boundaries.
        mixes: plans with their times, in the unit of the prices.

    """
    if not mixes or not neighbours:
        return cost
    fit = _Fit(cost, neighbours)
    solved = fit.solve(mixes)
    return replace(cost, prices=fit.layer_prices(solved), boundaries=fit.boundaries(solved))


class _Fit:
    """The regression: which coefficient stands where, and what each plan makes of them."""

    def __init__(self, cost: CostModel, neighbours: Sequence[Neighbours]) -> None:
        self.cost, self.neighbours = cost, neighbours
        self.precisions = list(dict.fromkeys(precision for _, precision in cost.prices))
        self.names = list(dict.fromkeys(name for name, _ in cost.prices))
        self.mean = sum(cost.prices.values()) / max(len(cost.prices), 1) or 1.0
        self.size = sum(pair.elements for pair in neighbours) / len(neighbours) or 1.0
        choices = [("layer", *choice) for choice in cost.prices]
        changes = [(p, q) for p in self.precisions for q in self.precisions if p != q]
        own = [("own", at, *change) for at in range(len(neighbours)) for change in changes]
        shared = [
            ("shared", relation, *change, term)
            for relation in ("writes", "shares")
            for change in changes
            for term in range(3)
        ]
        self.place = {key: at for at, key in enumerate([*choices, *own, *shared])}
        self.deviations = self.mean * np.array(
            [*np.full(len(choices), _LAYER), *np.full(len(own), _OWN), *np.full(len(shared), _SHARED)]
        )

    def solve(self, mixes: Mixes) -> Array:
        """The coefficients that agree best with the mixes and with what is known before."""
        uniform = [PrecisionPlan.uniform(self.names, precision) for precision in self.precisions]
        plans = [*(plan for plan, _ in mixes), *uniform]
        times = np.array([*(time for _, time in mixes), *(self.cost.total(plan) for plan in uniform)])
        noise = times * np.array([*np.full(len(mixes), _NOISE), *np.full(len(uniform), _UNIFORM_NOISE)])
        rows = np.array([self.row(plan) for plan in plans])
        beyond = times - np.array([self.cost.total(plan) for plan in plans])
        scaled = rows * self.deviations / noise[:, None]
        system = np.vstack([scaled, np.eye(len(self.deviations))])
        wanted = np.concatenate([beyond / noise, np.zeros(len(self.deviations))])
        solution: Array = np.linalg.lstsq(system, wanted, rcond=None)[0]
        return solution * self.deviations

    def row(self, plan: PrecisionPlan) -> Array:
        """Return how often each coefficient is in the time of a plan."""
        found, chosen = np.zeros(len(self.place)), dict(plan.layers)
        for choice in plan.layers:
            found[self.place["layer", *choice]] = 1.0
        for at, pair in enumerate(self.neighbours):
            change = chosen[pair.first], chosen[pair.second]
            if change[0] != change[1]:
                found += self.boundary_row(at, *change)
        return found

    def boundary_row(self, at: int, first: Precision, second: Precision) -> Array:
        """Return how often each coefficient is in the price of a boundary."""
        found, pair = np.zeros(len(self.place)), self.neighbours[at]
        found[self.place["own", at, first, second]] = 1.0
        slowest = max(self.cost.prices[pair.first, precision] for precision in (first, second))
        for term, value in enumerate((1.0, pair.elements / self.size, slowest / self.mean)):
            found[self.place["shared", pair.relation, first, second, term]] = value
        return found

    def layer_prices(self, solved: Array) -> dict[tuple[str, Precision], float]:
        """Prices of layers, none below nothing."""
        return {
            choice: max(price + float(solved[self.place["layer", *choice]]), 0.0)
            for choice, price in self.cost.prices.items()
        }

    def boundaries(self, solved: Array) -> tuple[Boundary, ...]:
        """Prices of boundaries."""
        changes = [(p, q) for p in self.precisions for q in self.precisions if p != q]
        return tuple(
            Boundary(
                pair.first,
                pair.second,
                {change: float(self.boundary_row(at, *change) @ solved) for change in changes},
            )
            for at, pair in enumerate(self.neighbours)
        )
