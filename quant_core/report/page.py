"""The report's page: texts and charts of a run poured into the template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.charts.frontier import frontier_chart
from quant_core.report.charts.loss import loss_chart
from quant_core.report.charts.search import search_chart
from quant_core.report.charts.tensors import tensor_charts
from quant_core.report.limits import LISTED, ROWS, foremost, short
from quant_core.report.rendering import rendered
from quant_core.report.reproduce import command, next_step, picking
from quant_core.report.sentences.half_decibel import half_decibel
from quant_core.report.sentences.summary import summary
from quant_core.report.tables.costs import costs
from quant_core.report.tables.latency import latency_rows, latency_totals
from quant_core.report.tables.layers import LayerRow, layer_rows
from quant_core.report.tables.samples import sample_rows
from quant_core.report.tables.scores import score_rows

__all__ = ["PAGE_TEMPLATES", "report_page"]

PAGE_TEMPLATES = ("page.html.jinja", "head.html.jinja", "scripts.html.jinja")
"""The templates that every page of a run has in it."""


def report_page(manifest: Manifest, tables: Mapping[str, pa.Table]) -> str:
    """The page of a run, from its manifest and its tables `layers`, `calibration`, `sensitivity` and `search`.

    With `samples`, `latency` and `frontier`, where there are such tables, the page shows those too.

    One file of less than 3 MB however large the model: of very many layers, plans and tensors it shows the
    foremost (see limits.py), and says so.
    """
    layers, sensitivity, search = tables["layers"], tables["sensitivity"], tables["search"]
    rows = layer_rows(manifest, layers, sensitivity)
    frontier = frontier_chart(manifest, tables["frontier"]) if "frontier" in tables else None
    tensors = tensor_charts(manifest.plan, layers, tables["calibration"])
    crossings = [(tensor["name"], types) for tensor in tensors if len(types := _used(tensor)) > 1]
    return rendered(
        PAGE_TEMPLATES[0],
        {
            "loss": loss_chart(manifest, layers, sensitivity),
            "search": search_chart(manifest, search),
            "tensors": tensors,
            **({"frontier": frontier} if frontier else {}),
        },
        manifest=manifest,
        summary=summary(manifest),
        scores=score_rows(manifest),
        costs=costs(manifest, layers),
        samples=sample_rows(tables["samples"]) if "samples" in tables else [],
        latency=latency_rows(manifest, tables["latency"]) if "latency" in tables else [],
        latency_totals=latency_totals(manifest, tables["latency"]) if "latency" in tables else "",
        layers=foremost(rows, ROWS, _weight),
        all_layers=len(rows),
        all_tensors=tables["calibration"].num_rows,
        crossings=crossings[:LISTED],
        all_crossings=len(crossings),
        first_tensor=most_telling(tables),
        boundaries=sum(bool(row.boundary) for row in rows),
        half_decibel=half_decibel(manifest, tables["frontier"]) if frontier else [],
        picking=picking(manifest, frontier["points"]) if frontier else None,
        next_step=next_step(manifest, search),
        command=command(manifest),
    )


def _weight(row: LayerRow) -> tuple[int, float]:
    """Return how much a layer matters where not all are shown: its loss or, where none was probed, its size."""
    return max(map(int, row.places), default=0), row.share


def _used(tensor: Mapping[str, Any]) -> list[str]:
    """The types a tensor has in the plan; more than one at a precision boundary."""
    return [found["type"] for found in tensor["ranges"] if found["used"]]


def most_telling(tables: Mapping[str, pa.Table]) -> str | None:
    """The tensor to show first: what the layer that is the most sensitive reads."""
    ranked = tables["sensitivity"].column("layer").to_pylist()
    reads = {row["layer"]: row["activations"] for row in tables["layers"].select(["layer", "activations"]).to_pylist()}
    found = reads.get(ranked[-1]) if ranked else None
    return short(found[0]) if found else None
