"""Searches over models that are nothing but a table: the error of every plan is written down in advance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from quant_core.search import Budget, Candidate, Measured, Move, Space, Strategy

__all__ = [
    "LAYERS",
    "LIMIT",
    "Found",
    "additive",
    "cheapest",
    "interacting",
    "jagged",
    "jumbled",
    "least_error",
    "search",
    "space",
    "tables",
]

LIMIT = 1.0
Errors = Callable[[Candidate], float]
LAYERS = {2: 12, 3: 7, 4: 6, 5: 5}
"""Layers by rungs: as many as brute force looks at in no time."""


@dataclass(frozen=True)
class Found:
    """What came out of a search."""

    plan: Candidate
    """The cheapest plan that met the target, or with a budget the best one within it."""
    cost: float
    """What it costs."""
    tried: list[Candidate]
    """Plans evaluated, in order."""


def space(
    losses: NDArray[np.float64],
    costs: NDArray[np.float64],
    evaluations: int = 8,
    ranking: tuple[Move, ...] | None = None,
    budgets: tuple[Budget, ...] = (),
) -> Space:
    """A space over [layers, rungs] tables that knows nothing but the wide plan, of error 0."""
    moves = [(layer, rung) for layer in range(len(losses)) for rung in range(1, losses.shape[1])]
    ordered = tuple(sorted(moves, key=lambda move: (losses[move], move)))
    known = {(0,) * len(losses): Measured(True, 0.0)}
    return Space(losses, costs, ordered if ranking is None else ranking, LIMIT, known, evaluations, budgets)


def tables(seed: int, layers: int | None = None, rungs: int = 2) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random losses, from harmless to fatal, and costs, of a model whose all-narrow plan misses the target."""
    random = np.random.default_rng(seed)
    layers = layers or int(random.integers(2, 13 if rungs == 2 else 8))
    steps = random.lognormal(0, 1.5, (layers, rungs - 1))
    losses = np.concatenate([np.zeros((layers, 1)), np.cumsum(steps, axis=1)], axis=1)
    losses *= random.uniform(1.2, 8) / losses[:, -1].sum()
    work = random.lognormal(0, 1, (layers, 1))
    return losses, np.ceil(1000 * work) * 0.5 ** np.arange(rungs)


def jumbled(seed: int, rungs: int, missing: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses and costs of which no rung is ordered: a narrower one may lose less, and may cost more."""
    random = np.random.default_rng(seed)
    layers = int(random.integers(2, LAYERS[rungs] + 1))
    losses = random.lognormal(-1.5, 1.5, (layers, rungs))
    losses[random.uniform(size=losses.shape) < missing] = np.inf
    losses[:, 0] = 0.0
    return losses, np.ceil(random.lognormal(5, 1, (layers, rungs)))


def search(strategy: Callable[[Space], Strategy], given: Space, errors: Errors) -> Found:
    """Let a strategy search a table; it must not ask for the same plan twice, or for one that it knows.

    With budgets it is the plan of least error that comes out, of those it has tried; it must try no plan above them.
    """
    steps, tried = strategy(given), []
    try:
        plan = next(steps)
        while True:
            assert plan not in tried and plan not in given.known and given.affordable(plan)
            tried.append(plan)
            error = errors(plan)
            plan = steps.send(Measured(error <= LIMIT, error))
    except StopIteration:
        if not given.budgets:
            best = min([given.wide, *(plan for plan in tried if errors(plan) <= LIMIT)], key=given.cost)
        else:
            best = min(tried, key=lambda plan: (math.isnan(errors(plan)), errors(plan)))
        return Found(best, given.cost(best), tried)


def additive(losses: NDArray[np.float64]) -> Errors:
    """Errors add up as the losses say."""
    return lambda plan: float(losses[np.arange(len(plan)), plan].sum())


def interacting(losses: NDArray[np.float64], seed: int, strength: float = 0.5) -> Errors:
    """Two narrow layers together lose more or less than each alone."""
    random = np.random.default_rng(seed)
    pairs = random.uniform(-strength, strength, (len(losses), len(losses)))

    def error(plan: Candidate) -> float:
        parts = losses[np.arange(len(plan)), plan]
        return max(float(parts.sum() + np.sqrt(parts) @ np.triu(pairs, 1) @ np.sqrt(parts)), 0.0)

    return error


def jagged(seed: int, missing: float = 0.5) -> Errors:
    """Errors have nothing to do with anything; the wide plan alone is sure to meet the target."""

    def error(plan: Candidate) -> float:
        if not any(plan):
            return 0.0
        draw = float(np.random.default_rng([seed, *plan]).uniform())
        return draw / missing * LIMIT if missing else 0.0

    return error


def cheapest(given: Space, errors: Errors) -> float:
    """The cost of the best plan of all, by looking at every one."""
    layers, rungs = given.losses.shape
    return min(given.cost(plan) for plan in product(range(rungs), repeat=layers) if errors(plan) <= LIMIT)


def least_error(given: Space, errors: Errors) -> float:
    """The error of the best plan within the budgets, by looking at every one."""
    layers, rungs = given.losses.shape
    return min(errors(plan) for plan in product(range(rungs), repeat=layers) if given.affordable(plan))
