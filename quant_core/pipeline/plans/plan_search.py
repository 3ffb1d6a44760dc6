"""Lets a search strategy, which knows only numbers, try plans of a model."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from quant_core.execution.progress import watcher
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.plan_space import cheapest_of, plan_of, search_space, unit_pairs
from quant_core.pipeline.plans.study import Study
from quant_core.search import STRATEGIES, Strategy, knapsack, pareto_curve
from quant_core.search.runs import in_runs

__all__ = ["FRONTIER_PLANS", "go_on", "is_open", "search_frontier", "search_plans", "search_runs", "try_ends"]


FRONTIER_PLANS = 16
"""Plans that the frontier takes at least, besides those that the search has tried."""


def try_ends(evaluator: PlanEvaluator) -> None:
    """Try the plans that may end the search before it begins: with all layers narrow, and the cheapest there is."""
    study, config = evaluator.study, evaluator.study.job.config
    if study.budgets:
        _try_cheapest_within_budget(evaluator)
    elif study.start.met and not study.above and config.search != "linear" and config.most_layers is None:
        # The linear rule goes step by step and never looks ahead; and where only so many may be narrow, not all may.
        _try_all_narrow(evaluator)


def _try_cheapest_within_budget(evaluator: PlanEvaluator) -> None:
    study = evaluator.study
    if study.affordable(study.wide.plan):
        budgets = "budgets" if len(study.budgets) > 1 else "budget"
        watcher().noted(f"the wide model is within the {budgets}: no layer needs to be narrowed")
    elif not study.affordable(cheapest_of(study)):
        evaluator.evaluate(cheapest_of(study))


def _try_all_narrow(evaluator: PlanEvaluator) -> None:
    """Go down the ladder with all candidates at once, while the target is met, and on to the cheapest plan."""
    study, narrow = evaluator.study, evaluator.study.job.config.narrow
    others = len(study.wide.plan.layers) - len(study.candidates)
    which = f"all {len(study.candidates)} layers that may be narrow" if others else "all layers"
    for rung, precision in enumerate(narrow, start=1):
        if not evaluator.evaluate(study.lifted_to(precision)).met:
            return
        further = f"on to {narrow[rung]}" if rung < len(narrow) else "there is no narrower one to choose"
        watcher().noted(f"{which}, at {precision}, meet the target at once; {further}")
    # Not every layer need be cheapest at the narrowest precision.
    if all(trial.plan != cheapest_of(study) for trial in study.trials):
        evaluator.evaluate(cheapest_of(study))


def is_open(study: Study) -> bool:
    """Return whether a search has something to find out, once the ends were tried."""
    cheapest = cheapest_of(study)
    if study.budgets:
        return not study.affordable(study.wide.plan) and study.affordable(cheapest)
    return study.start.met and not any(trial.met and trial.plan == cheapest for trial in study.trials)


def search_plans(evaluator: PlanEvaluator, ranking: pa.Table) -> None:
    """Let the strategy of the configuration try plans until it has settled."""
    strategy = STRATEGIES[evaluator.study.job.config.search]
    _follow(evaluator, strategy(search_space(evaluator.study, ranking)))


def go_on(evaluator: PlanEvaluator, ranking: pa.Table) -> None:
    """Try further plans that are expected to save more than those tried so far."""
    _follow(evaluator, knapsack(search_space(evaluator.study, ranking)))


def search_runs(evaluator: PlanEvaluator, ranking: pa.Table) -> None:
    """Try plans that have fewer boundaries between precisions and cost about as little."""
    study = evaluator.study
    _follow(evaluator, in_runs(search_space(study, ranking), unit_pairs(study)))


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
            choice = strategy.send(study.measured(evaluator.evaluate(plan_of(study, choice))))
    except StopIteration:
        return
