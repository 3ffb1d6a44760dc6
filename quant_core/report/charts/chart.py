"""The report's charts one by one, as objects for a notebook or a file."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.charts.frontier import frontier_chart
from quant_core.report.charts.loss import loss_chart
from quant_core.report.charts.search import search_chart
from quant_core.report.charts.tensors import tensor_charts
from quant_core.report.page import most_telling
from quant_core.report.rendering import rendered
from quant_core.storage.references import atomic_write

__all__ = ["Chart", "charts_of", "framed"]


@dataclass(frozen=True)
class Chart:
    """A chart. The last expression of a notebook's cell draws it; `save` writes it as a page of its own."""

    name: str
    """`search`, `frontier`, `loss` or `tensors`, as charts.js knows it."""
    title: str
    """What it shows."""
    data: Any
    """What it draws: numbers, and the texts shown on hovering."""
    first: str | None = None
    """For `tensors`: the one that is shown first."""

    def page(self) -> str:
        """A self-contained HTML page with the chart alone."""
        return rendered("chart.html.jinja", {self.name: self.data}, name=self.name, title=self.title, first=self.first)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file; its path."""
        file = Path(path)
        atomic_write(file, self.page().encode())
        return file

    def _repr_html_(self) -> str:
        return framed(self.page(), self.title, _HEIGHT[self.name])


def framed(page: str, title: str, height: int) -> str:
    """Return a page in a frame of its own: its style and scripts cannot meet those of a notebook.

    Args:
        page: the page, with everything it needs inside.
        title: what a screen reader calls the frame.
        height: of the frame, in pixels.

    """
    return (
        f'<iframe title="{html.escape(title)}" srcdoc="{html.escape(page, quote=True)}" sandbox="allow-scripts" '
        f'allow="clipboard-write" style="width:100%;height:{height}px;border:0"></iframe>'
    )


_HEIGHT = {"search": 480, "frontier": 680, "loss": 470, "tensors": 640}


def charts_of(manifest: Manifest, tables: Mapping[str, pa.Table]) -> Mapping[str, Chart]:
    """The charts of a run by name; `frontier` where the run kept one."""
    layers = tables["layers"]
    charts = [
        Chart("search", "Every plan that was tried", search_chart(manifest, tables["search"])),
        Chart("loss", "What narrowing each layer costs", loss_chart(manifest, layers, tables["sensitivity"])),
        Chart(
            "tensors",
            "Values and ranges",
            tensor_charts(manifest.plan, layers, tables["calibration"]),
            first=most_telling(tables),
        ),
    ]
    if "frontier" in tables:
        charts.append(Chart("frontier", "Score against cost", frontier_chart(manifest, tables["frontier"])))
    return {chart.name: chart for chart in charts}
