"""What the charts draw: every number and every line of text, ready for charts.js."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from quant_core.calibration.histogram import Histogram, histograms_from_table
from quant_core.manifest import Manifest
from quant_core.report.limits import LISTED, PLANS, POINTS, TENSORS, foremost, short
from quant_core.report.text import METRIC_NAMES, UNITS, count_text, interval, limit_text, metric_text, number, percent
from quant_core.search import within
from quant_core.storage.tables import facts

__all__ = ["fate", "loss_chart", "search_chart", "tensor_charts", "verdicts"]

Json = dict[str, Any]

_BINS, _FEWEST_BINS, _ALL_BINS = 100, 24, 60_000
"""Bins a histogram is drawn with, and how many all histograms may have together: the page stays small."""


def loss_chart(manifest: Manifest, layers: pa.Table, sensitivity: pa.Table) -> Json:
    """A point a probe: the layer's number in graph order, its loss with its interval, and whether it was taken."""
    names = layers.column("layer").to_pylist()
    index = {name: place for place, name in enumerate(names, start=1)}
    points = [
        _loss_point(manifest, row, order, index[row["layer"]], len(names))
        for order, row in enumerate(sensitivity.to_pylist(), start=1)
        if row["layer"] in index and math.isfinite(row["loss"])
    ]
    positive = [point["loss"] for point in points if point["loss"] > 0]
    shown = foremost(points, POINTS, lambda point: point["loss"])
    return {
        "points": sorted(shown, key=lambda point: (point["layer"], point["order"])),
        "of": len(points),
        "layers": len(names),
        "wide": manifest.wide,
        "narrow": list(manifest.narrow),
        "log": bool(positive) and max(positive) > 20 * min(positive),
        "label": f"Loss ({manifest.config.get('rank', 'mse')}) when narrowed alone",
    }


def _loss_point(manifest: Manifest, row: Json, order: int, layer: int, layers: int) -> Json:
    chosen = manifest.plan.get(row["layer"])
    low, high = interval(row["loss"], row["standard_error"]) or (row["loss"], row["loss"])
    fate = f"narrowed to {chosen}" if chosen != manifest.wide else f"stays {chosen}"
    return {
        "layer": layer,
        "order": order,
        "precision": row["precision"],
        "loss": row["loss"],
        "low": low,
        "high": high,
        "taken": chosen == row["precision"],
        "narrowed": chosen != manifest.wide,
        "text": [
            short(row["layer"]),
            f"Layer {layer} of {layers}, {fate}",
            f"Loss at {row['precision']}: {number(row['loss'])}"
            + (f" ({number(low)} to {number(high)})" if high > low else ""),
            f"Place {order} in the ranking, {_probed_on(row)}",
        ],
    }


def _probed_on(row: Json) -> str:
    """Say on how many samples a layer was probed; none stands for a part of a block that was split."""
    return f"{row['samples']:,} samples" if row["samples"] else "taken to lose what the other part of its block leaves"


def search_chart(manifest: Manifest, search: pa.Table) -> Json:
    """A point an evaluated plan: share of MACs narrowed, score with its interval, accepted or not, chosen or not."""
    metric, limit = manifest.target.metric, manifest.target.limit
    rows = search.select([name for name in search.column_names if name not in ("precisions", "tensors")]).to_pylist()
    chosen = _chosen_step(manifest, search)
    points = [_plan_point(manifest, row, row["step"] == chosen) for row in rows if math.isfinite(row["score"])]
    return {
        "points": foremost(points, PLANS, lambda point: (point["chosen"], -abs(point["score"] - (limit or 0)))),
        "of": len(points),
        "limit": limit,
        "verdicts": verdicts(manifest),
        "limitText": "" if limit is None else f"limit {limit_text(metric, limit)}",
        "factor": 100 if metric == "top1_drop" else 1,
        "label": METRIC_NAMES[metric] + (f" ({UNITS[metric]})" if metric in UNITS else ""),
    }


def _chosen_step(manifest: Manifest, search: pa.Table) -> int | None:
    """The first evaluation of the plan that is shipped."""
    steps = zip(search.column("step").to_pylist(), search.column("precisions").to_pylist(), strict=True)
    return next((step for step, precisions in steps if json.loads(precisions) == manifest.plan), None)


def _plan_point(manifest: Manifest, row: Json, chosen: bool) -> Json:
    metric = manifest.target.metric
    low, high = interval(row["score"], row["standard_error"]) or (row["score"], row["score"])
    spread = f" ({metric_text(metric, low)} to {metric_text(metric, high)})" if high > low else ""
    return {
        "step": row["step"] + 1,
        "share": row["macs_share"],
        "score": row["score"],
        "low": low,
        "high": high,
        "accepted": row["accepted"],
        "chosen": chosen,
        "text": [
            f"Plan {row['step'] + 1}: {fate(manifest, row)}{', shipped' if chosen else ''}",
            f"{METRIC_NAMES[metric]}: {metric_text(metric, row['score'])}{spread}",
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


def tensor_charts(plan: Mapping[str, str], layers: pa.Table, calibration: pa.Table) -> list[Json]:
    """For every calibrated tensor its histogram, its range in each type, and the layers that read it.

    `plan` has the precision of each layer, if there is one. Of very many tensors, those at precision boundaries come
    first, then those that layers read.
    """
    readers: dict[str, list[str]] = {}
    for layer in layers.select(["layer", "activations"]).to_pylist():
        for name in layer["activations"]:
            readers.setdefault(name, []).append(layer["layer"])
    known = facts(calibration)
    ranges, carried = known.get("ranges", {}), known.get("carried", {})
    names = foremost(
        calibration.column("tensor").to_pylist(),
        TENSORS,
        lambda name: (len(carried.get(name, ())) > 1, len(readers.get(name, ()))),
    )
    bins = max(_FEWEST_BINS, min(_BINS, _ALL_BINS // max(1, len(names))))
    histograms = histograms_from_table(calibration)
    return [
        _histogram(histograms[name], bins)
        | {
            "name": short(name),
            "readers": [
                f"{short(layer)} ({plan.get(layer, '?')})" if plan else short(layer)
                for layer in readers.get(name, [])[:LISTED]
            ],
            "ranges": _ranges(histograms[name], ranges.get(name, {}), carried.get(name, [])),
        }
        for name in names
    ]


def _histogram(histogram: Histogram, bins: int) -> Json:
    """The histogram with at most that many bins."""
    every = max(1, math.ceil(len(histogram.counts) / bins))
    starts = np.arange(0, len(histogram.counts), every)
    return {
        "min": histogram.low,
        "max": histogram.high,
        "count": count_text(histogram.count),
        "start": float(histogram.edges[0]),
        "width": every * math.ldexp(1.0, histogram.exponent),
        "counts": np.add.reduceat(histogram.counts, starts).tolist() if len(starts) else [],
    }


def _ranges(histogram: Histogram, ranges: Mapping[str, tuple[float, float]], carried: Sequence[str]) -> list[Json]:
    return [
        {
            "type": name,
            "low": low,
            "high": high,
            "used": name in carried,
            "step": number(step := (high - low) / (2 ** int(name.lstrip("uint")) - 1)),
            "cut": percent(cut, 3) if (cut := _outside(histogram, low - step / 2, high + step / 2)) else "none",
        }
        for name, (low, high) in ranges.items()
    ]


def _outside(histogram: Histogram, low: float, high: float) -> float:
    """The share of values that a range cuts off, to the resolution of the histogram."""
    edges = histogram.edges
    outside = histogram.counts[(edges[1:] <= low) | (edges[:-1] > high)].sum()
    return float(outside) / max(1, histogram.count)
