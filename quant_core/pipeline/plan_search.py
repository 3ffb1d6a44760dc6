"""Lets a search strategy, which knows only numbers, try plans of a model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config import SearchConfig
from quant_core.model.selection import names_meant
from quant_core.pipeline.study import Trials
from quant_core.precision import Precision, PrecisionPlan
from quant_core.scoring.metrics import METRICS, additive
from quant_core.search import STRATEGIES, Choice, Space, Strategy, curve

__all__ = ["CURVE", "narrowable", "search_curve", "search_plans", "search_space"]


CURVE = 16
"""Plans that the frontier takes at least, besides those that the search has tried."""


def narrowable(config: SearchConfig, names: list[str]) -> list[str]:
    """The layers that a plan may narrow; raises InputError for a name in `keep_wide` that is no layer's."""
    kept = names_meant(names, config.keep_wide, "keep_wide", "layer")
    return [name for name in names if name not in kept]


def search_plans(trials: Trials, ranking: pa.Table) -> None:
    """Let the strategy of the configuration try plans until it has settled."""
    _follow(trials, STRATEGIES[trials.request.config.search](search_space(trials, ranking)))


def search_curve(trials: Trials, ranking: pa.Table) -> None:
    """Try plans along the whole curve of score against cost, where the ones tried so far leave it open."""
    space = search_space(trials, ranking)
    _follow(trials, curve(replace(space, evaluations=max(CURVE, space.evaluations))))


def _follow(trials: Trials, strategy: Strategy) -> None:
    """Measure what a strategy asks for."""
    try:
        choice = next(strategy)
        while True:
            choice = strategy.send(trials.measured(trials.evaluate(_plan_of(trials, choice), "search")))
    except StopIteration:
        return


def search_space(trials: Trials, ranking: pa.Table) -> Space:
    """What the strategies are to know of a model: its layers' losses and costs, and the plans tried so far."""
    config = trials.request.config
    ladder = (config.wide, *config.narrow)
    names = [name for name, _ in trials.done[0].plan.layers]
    losses, moves = _losses(ranking, names, ladder)
    if config.rank == "l2-float":  # what a layer adds, on the scale on which that adds up
        wide = METRICS["l2"](trials.done[0].scores).value
        losses[:, 1:] = np.maximum(losses[:, 1:] ** 2 - wide**2, 0.0)
    known = {_choice_of(trials, trial.plan): trials.measured(trial) for trial in trials.done}
    limit = config.target.limit
    costs = np.array([[trials.cost.prices[name, precision] for precision in ladder] for name in names])
    free = narrowable(config, names)
    fixed = [index for index, name in enumerate(names) if name not in free]
    costs[fixed] = costs[fixed, :1]  # nothing is to be had there
    return Space(
        losses=losses,
        costs=costs,
        ranking=tuple(_of_first_layers(moves, config.most_layers)),
        # Without one, what was measured so far says which errors matter.
        limit=max(found.error for found in known.values()) if limit is None else additive(config.target.metric, limit),
        known=known,
        evaluations=config.evaluations,
        budget=None if trials.budget is None else trials.budget - trials.cost.fixed,
        fixed=frozenset(fixed),
    )


def _losses(
    ranking: pa.Table, names: list[str], ladder: tuple[Precision, ...]
) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
    """Losses by layer and rung, and the ranking's rows as moves."""
    layer_of = {name: index for index, name in enumerate(names)}
    rung_of = {str(precision): rung for rung, precision in enumerate(ladder)}
    losses = np.full((len(names), len(ladder)), np.inf)
    losses[:, 0] = 0.0
    moves = []
    for row in ranking.select(["layer", "precision", "loss"]).to_pylist():
        layer, rung = layer_of[row["layer"]], rung_of[row["precision"]]
        losses[layer, rung] = math.inf if math.isnan(row["loss"]) else row["loss"]
        moves.append((layer, rung))
    return losses, moves


def _of_first_layers(moves: list[tuple[int, int]], most: int | None) -> list[tuple[int, int]]:
    """The moves of so many layers, those that the ranking names first; all without a number."""
    first = list(dict.fromkeys(layer for layer, _ in moves))[:most]
    return [move for move in moves if move[0] in first]


def _plan_of(trials: Trials, choice: Choice) -> PrecisionPlan:
    ladder = (trials.request.config.wide, *trials.request.config.narrow)
    names = [name for name, _ in trials.done[0].plan.layers]
    return PrecisionPlan(tuple((name, ladder[rung]) for name, rung in zip(names, choice, strict=True)))


def _choice_of(trials: Trials, plan: PrecisionPlan) -> Choice:
    ladder = (trials.request.config.wide, *trials.request.config.narrow)
    return tuple(ladder.index(precision) for _, precision in plan.layers)
