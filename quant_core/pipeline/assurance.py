"""What a finished run can say of how sure it is, for the manifest and the report."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.pipeline.findings import Shipped
from quant_core.pipeline.study import Study, Trial
from quant_core.scoring.confidence import bounds

__all__ = ["assurance"]


def assurance(study: Study[RunConfig], shipped: Shipped, held_out: pa.Table | None) -> dict[str, Any]:
    """The confidence asked for and, if there is one, what it rests on.

    `bound` is the shipped file's on the evaluation data, after as many `looks` as plans were evaluated; `holdout` the
    one on held-out scores, which nobody looked at before; `undecided` the cheapest plan that may well meet the target,
    and how many samples it would take to be sure.
    """
    target = study.job.config.target
    if target.confidence is None:
        return {"confidence": None}
    fresh = None if held_out is None else bounds(target.metric, held_out, 1 - target.confidence).worst(target)
    return {
        "confidence": target.confidence,
        "bound": shipped.bound,
        "looks": len(study.trials),
        "holdout": None if fresh is None else {"bound": fresh, "met": target.met_by(fresh)},
        "undecided": _undecided(study, shipped),
    }


def _undecided(study: Study[RunConfig], shipped: Shipped) -> dict[str, Any] | None:
    """The cheapest plan that scores within the limit and was refused for its bound, if it would be a gain."""
    target, cost = study.job.config.target, study.cost
    most = cost.total(shipped.plan)
    refused = [
        trial
        for trial in study.trials
        if not trial.met
        and target.met_by(trial.score.value)
        and (trial.plan == shipped.plan or (study.budget is None and cost.total(trial.plan) < most))
    ]
    if not refused:
        return None
    trial: Trial = min(refused, key=lambda one: cost.total(one.plan))
    return {
        "plan": trial.plan.digest,
        "cost_ratio": cost.ratio(trial.plan, study.wide.plan),
        "score": trial.score.value,
        "bound": trial.bound,
        "samples": study.samples_to_settle(trial),
    }
