"""The chart of the plans that were tried: score against cost."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.limits import PLANS, foremost
from quant_core.report.text import COST_NAMES, METRIC_NAMES, UNITS, interval, limit_text, metric_text, percent
from quant_core.search import within

__all__ = ["cost_label", "fate", "search_chart", "verdicts"]

Json = dict[str, Any]


def search_chart(manifest: Manifest, search: pa.Table) -> Json:
    """A point an evaluated plan: share of the wide cost, score with its interval, accepted or not, chosen or not."""
    metric, limit = manifest.target.metric, manifest.target.limit
    rows = search.select([name for name in search.column_names if name not in ("precisions", "tensors")]).to_pylist()
    chosen = _chosen_step(manifest, search)
    wide = rows[0]["cost"] if rows else None  # the first plan is all wide
    points = [
        _plan_point(manifest, row, row["cost"] / (wide or 1), row["step"] == chosen)
        for row in rows
        if math.isfinite(row["score"])
    ]
    return {
        "points": foremost(points, PLANS, lambda point: (point["chosen"], -abs(point["score"] - (limit or 0)))),
        "of": len(points),
        "limit": limit,
        "verdicts": verdicts(manifest),
        "limitText": "" if limit is None else f"limit {limit_text(metric, limit)}",
        "factor": 100 if metric == "top1_drop" else 1,
        "label": METRIC_NAMES[metric] + (f" ({UNITS[metric]})" if metric in UNITS else ""),
        "costLabel": cost_label(manifest),
    }


def cost_label(manifest: Manifest) -> str:
    """Return what an axis is called that has costs of plans over that of the wide model."""
    return f"{COST_NAMES[manifest.costs.objective]}, share of all {manifest.wide}"


def _chosen_step(manifest: Manifest, search: pa.Table) -> int | None:
    """The last evaluation of the plan that is shipped: earlier ones were with other weights, or not in its runtime."""
    shipped = manifest.shipped_plan.digest
    plans = zip(search.column("step").to_pylist(), search.column("plan").to_pylist(), strict=True)
    return max((step for step, plan in plans if plan == shipped), default=None)


def _plan_point(manifest: Manifest, row: Json, share: float, chosen: bool) -> Json:
    metric = manifest.target.metric
    low, high = interval(row["score"], row["standard_error"]) or (row["score"], row["score"])
    spread = f" ({metric_text(metric, low)} to {metric_text(metric, high)})" if high > low else ""
    return {
        "step": row["step"] + 1,
        "share": share,
        "score": row["score"],
        "low": low,
        "high": high,
        "accepted": row["accepted"],
        "chosen": chosen,
        "text": [
            f"Plan {row['step'] + 1}: {fate(manifest, row)}{', shipped' if chosen else ''}",
            f"{METRIC_NAMES[metric]}: {metric_text(metric, row['score'])}{spread}",
            f"{percent(share, 1)} of the {COST_NAMES[manifest.costs.objective]}",
            f"{row['layers_narrowed']} layers narrowed, {percent(row['macs_share'])} of the MACs",
            f"settled on {row['samples']} samples",
        ],
    }


def verdicts(manifest: Manifest) -> tuple[str, str] | None:
    """Return the words for accepted plans and for the others; None where nothing was asked of them."""
    aimed = manifest.target.limit is not None
    if not manifest.budgets:
        return ("meets the target", "misses it") if aimed else None
    return ("meets the target within budget", "does not") if aimed else ("within budget", "over budget")


def fate(manifest: Manifest, row: Json) -> str:
    """Return the words for one plan, by its `cost`, its `bound` and whether it was `accepted`."""
    aimed = manifest.target.limit is not None
    if manifest.budgets and not row["accepted"] and _is_over_budget(manifest, row):
        return "over budget"
    if aimed:
        return "meets the target" if row["accepted"] else "misses the target"
    return "within budget" if manifest.budgets else "measured"


def _is_over_budget(manifest: Manifest, row: Json) -> bool:
    """Return whether a plan that was not accepted is above a budget: of others than the first the bound tells."""
    limits = {budget.cost: budget.limit for budget in manifest.budgets}
    most = limits.get(manifest.costs.objective)
    return (most is not None and not within(row["cost"], most)) or manifest.target.criterion.met_by(row["bound"])
