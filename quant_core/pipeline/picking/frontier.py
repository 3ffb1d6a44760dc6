"""The plans that no other beats in both cost and score, of which a target may choose afterwards."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa

from quant_core.config.criterion import OWN_METRICS
from quant_core.errors import InputError
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import Trial, target_values
from quant_core.scoring.metrics import scores_of
from quant_core.search import non_dominated
from quant_core.storage.schemas import FRONTIER
from quant_core.storage.tables import with_facts

__all__ = ["METRIC_COLUMNS", "frontier_table", "one_plan"]

METRIC_COLUMNS = ("l2", "sqnr_db", "kl", "cosine", "top1_drop", "metric_drop", *OWN_METRICS)
"""Columns of the frontier that hold scores, null where the data does not allow them."""


def frontier_table(study: Study) -> pa.Table:
    """Return the plans, of those scored on all samples, that are on the frontier by some metric (schema FRONTIER).

    By ascending cost; with several budgets they are on the frontier by any of those costs. The facts hold which `cost`
    that is and the target's `metric`.
    """
    trials = [trial for trial in study.trials if trial.scores.num_rows == study.baseline.num_rows]
    rows = [_row(study, trial) for trial in trials]
    kept: set[int] = set()
    for name in dict.fromkeys([study.cost.name, *study.budgets]):
        costs = [study.costs[name].total(trial.plan) for trial in trials]
        for metric in METRIC_COLUMNS:
            sign = -1.0 if metric in ("sqnr_db", "score") else 1.0
            if all(row[metric] is not None for row in rows):
                kept |= set(non_dominated(costs, [sign * row[metric] for row in rows]))
    ordered = sorted(kept, key=lambda place: (rows[place]["cost"], place))
    table = pa.Table.from_pylist([rows[place] for place in ordered], schema=FRONTIER)
    config = study.job.config
    return with_facts(table, cost=config.cost, metric=config.target.metric, function=config.metric_function)


def _row(study: Study, trial: Trial) -> dict[str, Any]:
    wide = study.wide.plan
    scores: dict[str, float | None] = dict.fromkeys(METRIC_COLUMNS)
    scores |= {name: value for name, value in scores_of(trial.scores).items() if name in scores}
    scores |= target_values(study.job.config, trial.scores, study.baseline)
    return {
        "plan": trial.plan.digest,
        "layers_narrowed": len(trial.plan.changed_from(wide)),
        "cost": study.cost.total(trial.plan),
        "cost_ratio": study.cost.ratio(trial.plan, wide),
        "bound": trial.bound if math.isfinite(trial.bound) else None,
        "top1": scores_of(trial.scores).get("top1"),
        "samples": trial.scores.num_rows,
        "precisions": json.dumps(trial.plan.as_dict()),
        "tensors": json.dumps(trial.plan.tensor_types()),
        "costs": json.dumps({name: cost.total(trial.plan) for name, cost in study.costs.items()}),
        **scores,
    }


def one_plan(frontier: pa.Table, digest: str) -> pa.Table:
    """Return the frontier with only the plan whose digest begins so; raises InputError unless that is one plan."""
    plans = frontier.column("plan").to_pylist()
    found = frontier.filter(pa.array([plan.startswith(digest) for plan in plans], pa.bool_()))
    if found.num_rows != 1:
        known = ", ".join(name[:8] for name in plans)
        raise InputError(
            f"plan {digest}: {found.num_rows or 'none'} of the plans on the frontier have names that begin so: {known}"
        )
    return found
