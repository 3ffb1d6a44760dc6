"""What the report says of several outputs, and of outputs whose channels are of unlike scale."""

from __future__ import annotations

from quant_core.manifest import Manifest, OutputScores
from quant_core.report.text import metric_text

__all__ = ["outputs"]


def outputs(manifest: Manifest) -> list[str]:
    """Sentences with the scores of each output and part, beside which one number for all may hide one."""
    several = [found for found in manifest.outputs if not found.channels]
    parts = [found for found in manifest.outputs if found.channels]
    said = [f"By output: {_listed(several)}."] if several else []
    return [*said, f"By groups of channels with values of different size: {_listed(parts)}."] if parts else said


def _listed(found: list[OutputScores]) -> str:
    return "; ".join(map(_told, found))


def _told(one: OutputScores) -> str:
    name = f"{one.output} channels {one.channels}" if one.channels else one.output
    found, wide = (metric_text("sqnr_db", scores.get("sqnr_db")) for scores in (one.mixed, one.wide))
    return f"{name} {found} (all wide {wide}), L2 {metric_text('l2', one.mixed.get('l2'))}"
