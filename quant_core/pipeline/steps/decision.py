"""The steps that decide which plan is written: probe, rank and search, or take the plan that the user has chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import pyarrow as pa

from quant_core.config import LayerWiseConfig, RunConfig
from quant_core.execution.runner import Runner
from quant_core.pipeline.candidates.block_splitting import found_blocks, probe_apart
from quant_core.pipeline.candidates.probe_rounds import probe_rounds
from quant_core.pipeline.job import Config_co
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.plan_reconstruction import reconstructed_search
from quant_core.pipeline.plans.plan_search import go_on, is_open, search_frontier, search_plans, search_runs, try_ends
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.stages import RANK
from quant_core.precision import PrecisionPlan
from quant_core.storage.schemas import SENSITIVITY


@dataclass(frozen=True)
class Finalist:
    """A plan that may be shipped."""

    plan: PrecisionPlan
    """The plan."""
    alpha: float | None
    """The error probability that its bound may spend; None without a confidence."""
    met: bool
    """Whether it met the target in simulation."""


@dataclass(frozen=True)
class Decision(Generic[Config_co]):
    """What came of a search: the plan to write, and those to go on to if its file misses what the plan met."""

    study: Study[Config_co]
    """Everything that was tried."""
    ranking: pa.Table
    """The losses that were probed (schema SENSITIVITY); empty where none was."""
    losses: pa.Table
    """What the search took layers to lose: these, or where blocks were probed, what is expected of their layers."""
    finalists: tuple[Finalist, ...]
    """The best plan first; at least one."""


def probe(study: Study, on: Runner) -> list[pa.Table]:
    """Narrow each layer alone and measure its loss, where that is needed to find a plan (schema PROBES).

    First the plans are tried that may need no search: all layers narrow, and the cheapest.
    """
    if not study.candidates:
        return []
    try_ends(PlanEvaluator(study, on))
    return probe_rounds(study, on) if is_open(study) or study.job.config.frontier else []


def rank(study: Study[RunConfig], losses: list[pa.Table], on: Runner) -> pa.Table:
    """Sort the probes by ascending loss (schema SENSITIVITY)."""
    if not losses:
        return SENSITIVITY.empty_table()
    blocks = {block[0]: list(block) for block in study.blocks}
    return on.run(RANK, layers=study.layers, probes=losses, start=str(study.ladder[0]), blocks=blocks)


def search(study: Study, ranking: pa.Table, on: Runner) -> Decision:
    """Find the plan to write: round by round, each of which scores one plan."""
    evaluator, losses = PlanEvaluator(study, on), ranking
    if ranking.num_rows and is_open(study):
        search_plans(evaluator, ranking)
        if found_blocks(study) and study.job.config.search in ("greedy", "knapsack"):
            study, ranking, losses = probe_apart(study, ranking, on)
            evaluator = PlanEvaluator(study, on)
            go_on(evaluator, losses)
        if study.neighbours:
            search_runs(evaluator, losses)
    if ranking.num_rows and study.job.config.frontier:
        search_frontier(evaluator, losses)
    if ranking.num_rows and study.job.config.improve == "auto" and not study.job.config.frontier:
        study = reconstructed_search(study, losses, on)
    best = study.best_first() or [study.closest]
    return Decision(study, ranking, losses, tuple(Finalist(trial.plan, trial.alpha, trial.met) for trial in best))


def chosen(study: Study[LayerWiseConfig], plan: PrecisionPlan) -> Decision[LayerWiseConfig]:
    """Decide on the plan that the user has chosen."""
    confidence = study.job.config.target.confidence
    alpha = None if confidence is None else 1 - confidence
    nothing = SENSITIVITY.empty_table()
    return Decision(study, nothing, nothing, (Finalist(plan, alpha, met=False),))
