"""Plans along the whole curve of score against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from quant_core.search.candidates import unmeasured
from quant_core.search.knapsack import cheapest_plans
from quant_core.search.space import Candidate, Measured, Space, Strategy
from quant_core.search.surrogate import Surrogate

__all__ = ["non_dominated", "pareto_curve"]

_SCALES = (1.0, 1 / 8, 1 / 64)
"""Shares of the sum of all losses up to which plans are looked for: most of the curve may be in the first of it."""


def pareto_curve(space: Space) -> Strategy:
    """Measure plans where the curve has its widest gaps, until the evaluations are used up or no plan lies in one.

    A gap is as wide as its ends are apart in cost and in error, each as a share of the whole curve's.
    """
    measured = dict(space.known)
    if space.narrowest not in measured:
        measured[space.narrowest] = yield space.narrowest
    for _ in range(space.evaluations):
        plan = _in_the_widest_gap(space, measured)
        if plan is None:
            return
        measured[plan] = yield plan


def non_dominated(costs: Sequence[float], errors: Sequence[float]) -> list[int]:
    """Numbers of the points that no other beats in one without losing in the other, by ascending cost.

    Of equal points the first is kept; an error that is not a number is never kept.
    """
    kept: list[int] = []
    for place in sorted(range(len(costs)), key=lambda place: (costs[place], errors[place], place)):
        if not np.isnan(errors[place]) and (not kept or errors[place] < errors[kept[-1]]):
            kept.append(place)
    return kept


def _in_the_widest_gap(space: Space, measured: Mapping[Candidate, Measured]) -> Candidate | None:
    """The plan whose cost is nearest to the middle of the widest gap that has one."""
    predictor = Surrogate(space, measured)
    learnt = predictor.losses()
    total = float(np.where(np.isfinite(learnt), learnt, 0.0).max(axis=1).sum())
    tables = [space.costs, space.costs_around(space.cheapest)] if len(space.boundaries.ends) else [space.costs]
    found = np.concatenate([cheapest_plans(learnt, table, scale * total) for scale in _SCALES for table in tables])
    plans = unmeasured(found, measured)
    costs = space.costs_of(plans)
    for low, high in _gaps(space, measured):
        inside = np.flatnonzero((low < costs) & (costs < high))
        if len(inside):
            return tuple(plans[inside[np.argmin(np.abs(costs[inside] - (low + high) / 2))]].tolist())
    return None


def _gaps(space: Space, measured: Mapping[Candidate, Measured]) -> list[tuple[float, float]]:
    """(lower, upper cost) of neighbours on the curve, the widest gap first."""
    costs = [space.cost(plan) for plan in measured]
    errors = [found.error for found in measured.values()]
    points = [(costs[place], errors[place]) for place in non_dominated(costs, errors)]
    spans = [max(abs(points[0][axis] - points[-1][axis]), 1e-300) for axis in (0, 1)]
    widths = [
        (sum(abs(a - b) / span for a, b, span in zip(left, right, spans, strict=True)), (left[0], right[0]))
        for left, right in pairwise(points)
    ]
    return [gap for _, gap in sorted(widths, key=lambda entry: -entry[0])]
