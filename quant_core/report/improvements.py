"""What the report says of what was tried to make layers better at equal bits."""

from __future__ import annotations

from quant_core.manifest import Improvement, Manifest
from quant_core.report.text import number, percent

__all__ = ["improvement_sentence", "improvements"]


def improvements(manifest: Manifest) -> list[str]:
    """Return a sentence on each thing that was tried, with its figures before and after."""
    return [improvement_sentence(found) for found in manifest.improvements]


def improvement_sentence(found: Improvement) -> str:
    """Say what was tried, on how many layers it helps, what it gave, and whether it was kept."""
    change = f"L2 {number(found.before)} before, {number(found.after)} after"
    if found.kept and found.before:
        change += f", {percent(1 - found.after / found.before)} less"
    outcome = "" if found.kept else "; it is not used"
    what = _DONE[found.method].format(layers=f"{found.layers} of {found.of} layers")
    return f"{what}, all at {found.precision}: {change}, on {found.samples:,} calibration samples held out{outcome}."


_DONE = {
    "migration": "Spread of activations moved into the weights of {layers}",
    "reconstruction": "Weights reconstructed in {layers}",
}
