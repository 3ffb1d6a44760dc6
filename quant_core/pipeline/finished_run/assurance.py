"""Says how sure a finished run is of its target, for the manifest and the report."""

from __future__ import annotations

from typing import cast

import pyarrow as pa

from quant_core.config import Criterion, MetricName, RunConfig
from quant_core.manifest import FurtherTarget, HeldOutBound, Target, Undecided
from quant_core.pipeline.finished_run.findings import Shipped
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import Trial
from quant_core.scoring.confidence import bounds

__all__ = ["target_record"]


def target_record(study: Study[RunConfig], shipped: Shipped, held_out: pa.Table | None) -> Target:
    """Return the target, whether it is met and, where a confidence was asked for, what that rests on.

    The bound is the shipped file's on the evaluation data, after as many looks as plans were evaluated. `held_out`
    has the file's scores on held-out data (schema SCORES), which nobody looked at before.
    """
    target = study.job.config.target
    plain = Target(
        metric=target.metric,
        limit=target.limit,
        function=target.function,
        met=shipped.met,
        confidence=target.confidence,
    )
    if study.job.config.also:
        plain = plain.model_copy(update={"also": _further(study, shipped), "binds": _binding(study, shipped)})
    if target.confidence is None:
        return plain
    return plain.model_copy(
        update={
            "bound": shipped.bound,
            "looks": len(study.tried),
            "holdout": None if held_out is None else _held_out_bound(target, target.confidence, held_out),
            "undecided": _undecided(study, shipped),
        }
    )


def _further(study: Study[RunConfig], shipped: Shipped) -> tuple[FurtherTarget, ...]:
    """Return how the shipped file does by the targets behind the first."""
    return tuple(
        FurtherTarget(
            metric=one.metric, limit=cast("float", one.limit), function=one.function, met=found.met, bound=found.bound
        )
        for one, found in zip(study.job.config.also, _trial(study, shipped).others, strict=True)
    )


def _binding(study: Study[RunConfig], shipped: Shipped) -> MetricName:
    """Return the metric of the target of which the shipped file uses most."""
    uses = study.uses(_trial(study, shipped))
    return study.job.config.targets[uses.index(max(uses))].metric


def _trial(study: Study[RunConfig], shipped: Shipped) -> Trial:
    return next(trial for trial in reversed(study.trials) if trial.plan == shipped.plan)


def _held_out_bound(target: Criterion, confidence: float, scores: pa.Table) -> HeldOutBound:
    bound = bounds(target.metric, scores, 1 - confidence).worst(target)
    return HeldOutBound(bound=bound, met=target.met_by(bound))


def _undecided(study: Study[RunConfig], shipped: Shipped) -> Undecided | None:
    """Return the cheapest plan that scores within the limit and was refused for its bound, if it would be a gain."""
    refused = _refused_for_their_bound(study, shipped)
    if not refused:
        return None
    trial = min(refused, key=lambda one: study.cost.total(one.plan))
    return Undecided(
        plan=trial.plan.digest,
        cost_ratio=study.cost.ratio(trial.plan, study.wide.plan),
        score=trial.score.value,
        bound=trial.bound,
        samples=study.samples_to_settle(trial),
    )


def _refused_for_their_bound(study: Study[RunConfig], shipped: Shipped) -> list[Trial]:
    target, most = study.job.config.target, study.cost.total(shipped.plan)
    return [
        trial
        for trial in study.trials
        if not trial.met
        and target.met_by(trial.score.value)
        and (trial.plan == shipped.plan or (not study.budgets and study.cost.total(trial.plan) < most))
    ]
