"""Lets a search strategy, which knows only numbers, try plans of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.execution.progress import watcher
from quant_core.pipeline.plan_evaluator import PlanEvaluator
from quant_core.pipeline.study import Study
from quant_core.precision import Precision, PrecisionPlan
from quant_core.scoring.metrics import METRICS, additive
from quant_core.search import STRATEGIES, Candidate, Space, Strategy, pareto_curve
from quant_core.search.boundaries import BoundaryCosts, cheapest_plan

__all__ = ["FRONTIER_PLANS", "is_open", "search_frontier", "search_plans", "search_space", "try_ends"]


FRONTIER_PLANS = 16
"""Plans that the frontier takes at least, besides those that the search has tried."""


def try_ends(evaluator: PlanEvaluator) -> None:
    """Try the plans that may end the search before it begins: with all layers narrow, and the cheapest there is."""
    study = evaluator.study
    if study.budget is not None:
        _try_cheapest_within_budget(evaluator)
    elif study.wide.met and study.job.config.search != "linear" and study.job.config.most_layers is None:
        # The linear rule goes step by step and never looks ahead; and where only so many may be narrow, not all may.
        _try_all_narrow(evaluator)


def _try_cheapest_within_budget(evaluator: PlanEvaluator) -> None:
    study = evaluator.study
    if study.affordable(study.wide.plan):
        watcher().noted("the wide model is within the budget: no layer needs to be narrowed")
    elif not study.affordable(_cheapest(study)):
        evaluator.evaluate(_cheapest(study))


def _try_all_narrow(evaluator: PlanEvaluator) -> None:
    """Go down the ladder with all candidates at once, while the target is met, and on to the cheapest plan."""
    study, narrow = evaluator.study, evaluator.study.job.config.narrow
    for rung, precision in enumerate(narrow, start=1):
        if not evaluator.evaluate(study.lifted_to(precision)).met:
            return
        further = f"on to {narrow[rung]}" if rung < len(narrow) else "there is no narrower one to choose"
        watcher().noted(f"all layers at {precision} meet the target at once; {further}")
    # Not every layer need be cheapest at the narrowest precision.
    if all(trial.plan != _cheapest(study) for trial in study.trials):
        evaluator.evaluate(_cheapest(study))


def is_open(study: Study) -> bool:
    """Return whether a search has something to find out, once the ends were tried."""
    cheapest = _cheapest(study)
    if study.budget is not None:
        return not study.affordable(study.wide.plan) and study.affordable(cheapest)
    return study.start.met and not any(trial.met and trial.plan == cheapest for trial in study.trials)


def _cheapest(study: Study) -> PrecisionPlan:
    """Return the plan that costs least; of precisions that cost the same, a layer has the narrowest."""
    ladder, names = study.ladder, [name for name, _ in study.wide.plan.layers]
    boundaries = _boundaries(study, names, ladder)
    rungs = dict(zip(names, cheapest_plan(_costs(study, names, ladder), boundaries, narrowest=True), strict=True))
    return study.wide.plan.narrowed({name: ladder[rungs[name]] for name in study.candidates})


def search_plans(evaluator: PlanEvaluator, ranking: pa.Table) -> None:
    """Let the strategy of the configuration try plans until it has settled."""
    strategy = STRATEGIES[evaluator.study.job.config.search]
    _follow(evaluator, strategy(search_space(evaluator.study, ranking)))


def search_frontier(evaluator: PlanEvaluator, ranking: pa.Table) -> None:
    """Try plans along the whole curve of score against cost, where the ones tried so far leave it open."""
    space = search_space(evaluator.study, ranking)
    _follow(evaluator, pareto_curve(replace(space, evaluations=max(FRONTIER_PLANS, space.evaluations))))


def _follow(evaluator: PlanEvaluator, strategy: Strategy) -> None:
    """Measure what a strategy asks for."""
    study = evaluator.study
    try:
        choice = next(strategy)
        while True:
            choice = strategy.send(study.measured(evaluator.evaluate(_plan_of(study, choice))))
    except StopIteration:
        return


def search_space(study: Study, ranking: pa.Table) -> Space:
    """Return what the strategies know of a model: its layers' losses and costs, and the plans tried so far."""
    config = study.job.config
    ladder, start = study.ladder, study.start.plan.layers
    names = [name for name, _ in start]
    losses, moves = _losses(ranking, names, ladder)
    if config.rank == "l2-float":  # what a layer adds, on the scale on which that adds up
        before = METRICS["l2"](study.start.scores).value
        losses[:, 1:] = np.maximum(losses[:, 1:] ** 2 - before**2, 0.0)
    # Where no rung above wide was of use, those that were tried are not in the ladder.
    tried = [trial for trial in study.trials if study.has(trial.plan)]
    known = {_candidate_of(study, trial.plan): study.measured(trial) for trial in tried}
    limit = config.target.limit
    return Space(
        losses=losses,
        costs=_costs(study, names, ladder),
        boundaries=_boundaries(study, names, ladder),
        ranking=tuple(_of_first_layers(_in_order(moves, names, config.order), config.most_layers)),
        # Without one, what was measured so far says which errors matter.
        limit=max(found.error for found in known.values()) if limit is None else additive(config.target.metric, limit),
        known=known,
        evaluations=config.evaluations,
        budget=None if study.budget is None else study.budget - study.cost.fixed,
        fixed=frozenset(_fixed(study, names)),
    )


def _costs(study: Study, names: Sequence[str], ladder: Sequence[Precision]) -> NDArray[np.float64]:
    """Costs by layer and rung; those of a layer that no plan narrows are everywhere what it costs wide."""
    costs = np.array([[study.cost.prices[name, precision] for precision in ladder] for name in names])
    fixed = _fixed(study, names)
    wide = ladder.index(study.job.config.wide)
    costs[fixed] = costs[fixed, wide : wide + 1]
    return costs


def _boundaries(study: Study, names: Sequence[str], ladder: Sequence[Precision]) -> BoundaryCosts:
    wide = ladder.index(study.job.config.wide)
    return BoundaryCosts.of(study.cost, names, ladder).with_fixed(_fixed(study, names), wide)


def _fixed(study: Study, names: Sequence[str]) -> list[int]:
    return [index for index, name in enumerate(names) if name not in study.candidates]


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


def _in_order(moves: list[tuple[int, int]], names: Sequence[str], order: Sequence[str]) -> list[tuple[int, int]]:
    """Return the moves in the user's order of layers, rung by rung; what it does not name comes last, as probed."""
    if not order:
        return moves
    place = {name: index for index, name in enumerate(order)}
    return sorted(moves, key=lambda move: (move[1], place.get(names[move[0]], len(order))))


def _of_first_layers(moves: list[tuple[int, int]], most: int | None) -> list[tuple[int, int]]:
    """The moves of so many layers, those that the ranking names first; all without a number."""
    first = list(dict.fromkeys(layer for layer, _ in moves))[:most]
    return [move for move in moves if move[0] in first]


def _plan_of(study: Study, choice: Candidate) -> PrecisionPlan:
    start = study.start.plan
    rungs = zip(start.layers, choice, strict=True)
    return start.narrowed({name: study.ladder[rung] for (name, _), rung in rungs if rung})


def _candidate_of(study: Study, plan: PrecisionPlan) -> Candidate:
    rung_of = {precision: rung for rung, precision in enumerate(study.ladder)}
    return tuple(rung_of[precision] if name in study.candidates else 0 for name, precision in plan.layers)
