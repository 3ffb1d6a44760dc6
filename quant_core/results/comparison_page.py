"""Two runs or files side by side as a page, with charts that hold both, and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quant_core.probing.shared_tensors import TensorErrors
from quant_core.report.charts.loss import loss_chart
from quant_core.report.charts.search import search_chart
from quant_core.report.limits import POINTS, ROWS, short
from quant_core.report.markdown import bold, plain, table
from quant_core.report.rendering import rendered
from quant_core.report.text import number
from quant_core.results.comparison import Comparison
from quant_core.results.outcome import Outcome

__all__ = ["comparison_markdown", "comparison_page", "file_charts", "run_charts"]

_NAMES = ("A", "B")
_LISTED = 50


def comparison_page(found: Comparison, charts: Mapping[str, Any]) -> str:
    """Return the comparison as one self-contained file with the charts of both runs or files."""
    return rendered(
        "comparison.html.jinja",
        charts,
        found=found,
        names=_titles(found),
        layers=found.layers[:ROWS],
        tensors=found.tensors[:ROWS],
        short=short,
    )


def run_charts(first: Outcome, second: Outcome) -> Mapping[str, Any]:
    """Return the charts of two runs; raises InputError where a table of a run cannot be read."""
    return {**_search(first, second), **_losses(first, second)}


def file_charts(errors: Sequence[TensorErrors]) -> Mapping[str, Any]:
    """Return the chart of two files: the errors of tensors along the depth, as far as they are known and finite."""
    points = [
        {
            "layer": place,
            "precision": name,
            "alone": value,
            "accumulated": value,
            "text": [short(error.tensor), f"{name}: {number(value)} dB"],
        }
        for place, error in enumerate(errors, start=1)
        for name, value in zip(_NAMES, error.decibels, strict=True)
        if value is not None and math.isfinite(value)
    ]
    shown = points[:POINTS]
    chart = {"points": shown, "layers": len(errors), "precisions": list(_NAMES), "of": len(points), "axis": "tensor"}
    return {"depth": chart} if points else {}


def comparison_markdown(found: Comparison) -> str:
    """Return the comparison for a pull request."""
    head = ["", *map(plain, _titles(found))]
    lines = [
        [one.name, *(bold(plain(text or "-"), not one.same) for text in (one.first, one.second))] for one in found.lines
    ]
    loss = ["loss when narrow"] if found.kind == "runs" else []
    rows = [
        [plain(short(one.layer)), one.first or "-", one.second or "-", *([one.loss or "-"] if loss else [])]
        for one in found.layers
    ]
    more = f", {_LISTED} of them here" if len(rows) > _LISTED else ""
    tensors = [[plain(short(one.name)), one.first, one.second] for one in found.tensors]
    parts = [
        *(f"> Take care: {plain(caveat)}." for caveat in found.caveats),
        table(head, lines),
        f"{len(rows)} of {found.of} layers differ in precision{more}.",
        *([table(["layer", *_NAMES, *loss], rows[:_LISTED])] if rows else []),
        *([table(["SQNR (dB) of tensor", *_NAMES], tensors[:_LISTED])] if tensors else []),
    ]
    return "\n\n".join(parts) + "\n"


def _titles(found: Comparison) -> tuple[str, str]:
    return f"{_NAMES[0]}: {found.first}", f"{_NAMES[1]}: {found.second}"


def _search(first: Outcome, second: Outcome) -> Mapping[str, Any]:
    """Return the plans of both runs in one chart, where they are measured by the same metric."""
    if first.manifest.target.metric != second.manifest.target.metric:
        return {}
    charts = [search_chart(run.manifest, run.table("search")) for run in (first, second)]
    points = [_named(point, number) for number, chart in enumerate(charts) for point in chart["points"]]
    limits, labels = ({chart[key] for chart in charts} for key in ("limit", "costLabel"))
    shared = charts[0] if len(limits) == 1 else {**charts[0], "limit": None, "limitText": ""}
    cost = labels.pop() if len(labels) == 1 else "cost, share of the wide model's"
    return {"search": {**shared, "points": points, "costLabel": cost}} if points else {}


def _losses(first: Outcome, second: Outcome) -> Mapping[str, Any]:
    """Return the losses of both runs in one chart, where both probed by the same loss and have the same layers."""
    same = first.manifest.config.get("rank") == second.manifest.config.get("rank")
    if not same or list(first.manifest.plan) != list(second.manifest.plan):
        return {}
    charts = [loss_chart(run.manifest, run.table("layers"), run.table("sensitivity")) for run in (first, second)]
    points = [
        _named(point, number) | {"precision": _NAMES[number]}
        for number, chart in enumerate(charts)
        for point in chart["points"]
    ]
    ordered = sorted(points, key=lambda point: (point["layer"], point["run"], point["order"]))
    log = any(chart["log"] for chart in charts)
    return {"loss": {**charts[0], "points": ordered, "narrow": list(_NAMES), "log": log}} if points else {}


def _named(point: Mapping[str, Any], run: int) -> dict[str, Any]:
    """Return a point that says of which run it is."""
    head, *rest = point["text"]
    return {**point, "run": run, "text": [f"{_NAMES[run]}: {head}", *rest]}
