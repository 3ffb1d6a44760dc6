"""A run's result as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant_core.report.templates import fragment
from quant_core.report.verdict import doubt, headline, is_met, score_rows, verdict

__all__ = ["outcome_html"]


def outcome_html(manifest: Mapping[str, Any], folder: str) -> str:
    """The verdict and the scores, without scripts: a notebook that is not trusted shows it too."""
    return fragment(
        "notebook.html.jinja",
        manifest=manifest,
        verdict=verdict(manifest),
        headline=headline(manifest),
        met=is_met(manifest),
        doubt=doubt(manifest),
        scores=score_rows(manifest),
        folder=folder,
    )
