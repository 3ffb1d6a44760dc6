"""A run's result as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.charts.chart import framed
from quant_core.report.charts.frontier import frontier_chart
from quant_core.report.charts.loss import loss_chart
from quant_core.report.charts.search import search_chart
from quant_core.report.rendering import fragment, rendered
from quant_core.report.sentences.summary import summary
from quant_core.report.tables.scores import score_rows

__all__ = ["outcome_html"]

_HEIGHT, _HEIGHT_WITH_FRONTIER = 880, 1130
"""In pixels; what is longer is scrolled to."""


def outcome_html(manifest: Manifest, folder: str, tables: Mapping[str, pa.Table]) -> str:
    """Return the verdict and the scores and, from the tables of a run, its frontier and its ranking in a frame.

    Verdict and scores need no scripts: a notebook that is not trusted shows them too. Without tables there is no frame.
    """
    height = _HEIGHT_WITH_FRONTIER if "frontier" in tables else _HEIGHT
    return fragment(
        "notebook.html.jinja",
        manifest=manifest,
        summary=summary(manifest),
        scores=score_rows(manifest),
        folder=folder,
        frame=framed(_charts_page(manifest, tables), "Frontier and ranking", height) if tables else "",
    )


def _charts_page(manifest: Manifest, tables: Mapping[str, pa.Table]) -> str:
    """Return the frontier, or the plans that were tried where none was kept, and the losses of layers as a page."""
    charts = {"loss": loss_chart(manifest, tables["layers"], tables["sensitivity"])}
    if "frontier" in tables:
        charts["frontier"] = frontier_chart(manifest, tables["frontier"])
    else:
        charts["search"] = search_chart(manifest, tables["search"])
    return rendered("widget.html.jinja", charts)
