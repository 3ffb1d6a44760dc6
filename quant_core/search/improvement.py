"""Goes on from the best plan known: the plan to try next is the one that is expected to save the most.

Expected is what a plan would save, times the chance that it meets the target (expected improvement under a
constraint; Gardner et al., Bayesian Optimization with Inequality Constraints, 2014). Two kinds of plans are looked
at: the cheapest ones for each sum of losses, and those that differ from the best known one in a layer or two.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping

import numpy as np
from numpy.typing import NDArray

from quant_core.search.knapsack import cheapest_plans
from quant_core.search.prediction import Predictor
from quant_core.search.space import Choice, Measured, Space, Strategy

__all__ = ["improve", "knapsack", "neighbours"]

_WORTH_AN_EVALUATION = 1 / 200
"""Expected saving, as a share of all that could be saved, below which the search is over."""
_BEYOND = 3.0
"""Plans whose predicted error is that many times what the limit leaves are not looked at."""
_SWAPPED = 12
"""Layers on each side that swaps are tried with."""


def knapsack(space: Space) -> Strategy:
    """Predict, measure what promises most, and predict again."""
    yield from improve(space, {})


def improve(space: Space, found: Mapping[Choice, Measured]) -> Generator[Choice, Measured, None]:
    """Go on from what is known and what was found, until the evaluations are used up or the next is not worth it."""
    measured = {**space.known, **found}
    for _ in range(space.evaluations):
        plan = _most_promising(space, measured)
        if plan is None:
            return
        measured[plan] = yield plan


def _most_promising(space: Space, measured: Mapping[Choice, Measured]) -> Choice | None:
    predictor = Predictor(space, measured)
    best = min((plan for plan, found in measured.items() if found.met), key=space.cost)
    most = space.cost(best)
    learnt = predictor.losses()
    room = _BEYOND * (space.limit - measured[space.wide].error) / predictor.factor
    plans = cheapest_plans(learnt, space.costs, min(room, float(_finite_maxima(learnt).sum())))
    plans = [
        plan
        for plan in dict.fromkeys([*plans, *neighbours(space, best, learnt)])
        if plan not in measured and space.cost(plan) < most
    ]
    if not plans:
        return None
    mean, deviation = predictor(plans)
    gains = np.array([most - space.cost(plan) for plan in plans]) * _chances(space.limit, mean, deviation)
    first = int(np.argmax(gains))
    worth = _WORTH_AN_EVALUATION * (space.cost(space.wide) - float(space.costs.min(axis=1).sum()))
    return plans[first] if gains[first] >= worth else None


def _finite_maxima(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.where(np.isfinite(losses), losses, 0.0).max(axis=1))


def _chances(limit: float, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability that an error is within the limit."""
    return np.array(
        [
            0.5 * math.erfc((m - limit) / (d * math.sqrt(2))) if d > 0 else float(m <= limit)
            for m, d in zip(mean, deviation, strict=True)
        ]
    )


def neighbours(space: Space, plan: Choice, losses: NDArray[np.float64]) -> list[Choice]:
    """Plans with one layer narrower, or one narrower and one wider; those of least loss per saved cost first."""
    downs, ups = _steps(space, plan, losses, 1), _steps(space, plan, losses, -1)
    single = [_changed(plan, down) for down in downs]
    swaps = [
        _changed(_changed(plan, down), up) for down in downs[:_SWAPPED] for up in ups[:_SWAPPED] if up[0] != down[0]
    ]
    return [*single, *swaps]


def _steps(space: Space, plan: Choice, losses: NDArray[np.float64], by: int) -> list[tuple[int, int]]:
    """Moves of one layer by one rung: down, the cheapest in loss first; up, those that give back most of it first."""
    found = []
    for layer, rung in enumerate(plan):
        to = rung + by
        if 0 <= to < losses.shape[1] and math.isfinite(losses[layer, to]):
            saved = by * (space.costs[layer, rung] - space.costs[layer, to])
            lost = by * (losses[layer, to] - losses[layer, rung])
            if saved > 0:
                found.append((by * lost / saved, (layer, to)))
    return [move for _, move in sorted(found, key=lambda step: step[0])]


def _changed(plan: Choice, move: tuple[int, int]) -> Choice:
    layer, rung = move
    return (*plan[:layer], rung, *plan[layer + 1 :])
