"""A run's result as a notebook shows it."""

from __future__ import annotations

from quant_core.manifest import Manifest
from quant_core.report.summary import summary
from quant_core.report.templates import fragment
from quant_core.report.verdict import score_rows

__all__ = ["outcome_html"]


def outcome_html(manifest: Manifest, folder: str) -> str:
    """The verdict and the scores, without scripts: a notebook that is not trusted shows it too."""
    return fragment(
        "notebook.html.jinja",
        manifest=manifest,
        summary=summary(manifest),
        scores=score_rows(manifest),
        folder=folder,
    )
