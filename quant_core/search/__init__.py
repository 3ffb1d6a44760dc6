"""How plans are searched: one strategy a module, over a common idea of what a plan is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quant_core.search.bisection import bisect
from quant_core.search.budgets import Budget, within
from quant_core.search.greedy import greedy
from quant_core.search.improvement import knapsack
from quant_core.search.linear import linear
from quant_core.search.pareto import non_dominated, pareto_curve
from quant_core.search.space import Candidate, Measured, Move, Space, Strategy

__all__ = [
    "STRATEGIES",
    "Budget",
    "Candidate",
    "Measured",
    "Move",
    "Space",
    "Strategy",
    "bisect",
    "greedy",
    "knapsack",
    "linear",
    "non_dominated",
    "pareto_curve",
    "within",
]

STRATEGIES: Mapping[str, Callable[[Space], Strategy]] = {
    "greedy": greedy,
    "bisect": bisect,
    "linear": linear,
    "knapsack": knapsack,
}
"""Strategies by the name the user gives."""
