"""The frontier as the report shows it: of the plans that were measured, those no other beats in score and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.charts.choice import add_changes
from quant_core.report.charts.search import cost_label, fate, verdicts
from quant_core.report.reproduce import pick_line
from quant_core.report.text import COST_NAMES, METRIC_NAMES, UNITS, limit_text, metric_text, percent
from quant_core.search import non_dominated, within
from quant_core.storage.frontier_rows import costs_of_plan
from quant_core.storage.tables import facts

__all__ = ["frontier_chart"]


def frontier_chart(manifest: Manifest, frontier: pa.Table) -> dict[str, Any]:
    """A point a plan on the frontier of the target's metric, by ascending cost, and the shipped plan wherever it is.

    The table holds the frontiers of all metrics; what is on that of another metric only is left out. With each plan
    goes what it changes against the shipped one, and with each that is not shipped the line that writes it.
    """
    target, objective = manifest.target.criterion, facts(frontier)["cost"]
    cost = COST_NAMES[objective]
    shipped = manifest.shipped_plan.digest
    rows = [row for row in frontier.to_pylist() if _is_finite(row[target.metric])]
    sign = -1.0 if target.higher_is_better else 1.0
    kept = set(non_dominated([row["cost"] for row in rows], [sign * row[target.metric] for row in rows]))
    shown = [(row, place in kept) for place, row in enumerate(rows) if place in kept or row["plan"] == shipped]
    points = [_point(manifest, row, cost, unbeaten, row["plan"] == shipped) for row, unbeaten in shown]
    for point, (row, unbeaten) in zip(points, shown, strict=True):
        writable = unbeaten and not point["chosen"]
        point["pick"] = pick_line(manifest, objective, row, rows) if writable else None
    return {
        "layers": add_changes(manifest, points, [row["precisions"] for row, _ in shown]),
        "points": points,
        "limit": target.limit,
        "limitText": "" if target.limit is None else f"limit {limit_text(target.metric, target.limit)}",
        "factor": 100 if target.metric == "top1_drop" else 1,
        "label": METRIC_NAMES[target.metric] + (f" ({UNITS[target.metric]})" if target.metric in UNITS else ""),
        "costLabel": cost_label(manifest),
        "cost": cost,
        "verdicts": verdicts(manifest),
    }


def _is_finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _point(manifest: Manifest, row: Mapping[str, Any], cost: str, unbeaten: bool, chosen: bool) -> dict[str, Any]:
    target, score = manifest.target.criterion, row[manifest.target.metric]
    bound = score if row["bound"] is None else row["bound"]
    costs = costs_of_plan(row, manifest.costs.objective)
    accepted = target.met_by(bound) and all(within(costs[one.cost], one.limit) for one in manifest.budgets)
    verdict = fate(manifest, {"cost": row["cost"], "bound": bound, "accepted": accepted})
    return {
        "share": row["cost_ratio"],
        "score": score,
        "bound": bound,
        "accepted": accepted,
        "chosen": chosen,
        "unbeaten": unbeaten,
        "text": [
            f"{percent(row['cost_ratio'], 1)} of the {cost}: {verdict}{', shipped' if chosen else ''}",
            f"{METRIC_NAMES[target.metric]}: {metric_text(target.metric, score)}",
            f"{row['layers_narrowed']} of {manifest.narrowed.of} layers narrowed",
        ],
    }
