"""The last step: write the output folder, and say what was missed."""

from __future__ import annotations

from quant_core.config import RunConfig
from quant_core.errors import TargetError
from quant_core.execution.runner import Runner
from quant_core.pipeline.finished_run.findings import Findings
from quant_core.pipeline.finished_run.output import write_output
from quant_core.pipeline.finished_run.plan_summary import cost_summaries
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import Judgement
from quant_core.report.sentences.shortfall import missed_budgets, missed_target, unsure_of_target
from quant_core.report.sentences.verdict import on_random_data
from quant_core.results.outcome import Outcome


def report(findings: Findings[RunConfig], on: Runner) -> Outcome:
    """Write the output folder: model, manifest, tables and report.

    Raises TargetError where a plan was searched for and none is within the target and the budgets.
    """
    outcome = write_output(findings, on)
    if not outcome.met and findings.study.job.assignment is None:
        mark = on_random_data(findings.study.job.random_data)
        raise TargetError(f"{_shortfall(findings.study)}{mark}", outcome)
    return outcome


def _shortfall(study: Study[RunConfig]) -> str:
    """Say in one line what is missed, and by how much."""
    config, best = study.job.config, (study.best_first() or [study.closest])[0]
    if not study.affordable(best.plan):
        return missed_budgets(
            config, cost_summaries((study.costs[name] for name in study.budgets), best.plan, study.wide.plan)
        )
    judged = (Judgement(best.score, best.bound, config.target.met_by(best.bound)), *best.others)
    target, found = next(
        (pair for pair in zip(config.targets, judged, strict=True) if not pair[1].met), (config.target, judged[0])
    )
    score = found.score.value
    if best.alpha is None or not target.met_by(score):
        return missed_target(config, score, best.plan, target)
    settled = study.samples_to_settle(best) if target == config.target else None
    return unsure_of_target(config, score, found.bound, settled, best.plan, target)
