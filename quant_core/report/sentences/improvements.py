"""What the report says of what was tried to make layers better at equal bits."""

from __future__ import annotations

from collections.abc import Collection

from quant_core.manifest import Improvement, LayerWeight, Manifest
from quant_core.report.text import number, percent

__all__ = ["improvement_sentence", "improvements", "layer_notes"]


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
    where = "for the plan found" if found.precision is None else f"all at {found.precision}"
    return f"{what}, {where}: {change}, on {found.samples:,} calibration samples held out{outcome}."


_DONE = {
    "zero points": "Zero points chosen for what {layers} read",
    "migration": "Spread of activations moved into the weights of {layers}",
    "reconstruction": "Weights reconstructed in {layers}",
}


def layer_notes(manifest: Manifest, migrated: Collection[str]) -> dict[str, str]:
    """Return by layer what was done to its weights beyond rounding to nearest, and what that gave.

    `migrated` are the layers that the spread of activations was moved into.
    """
    weights: dict[str, list[LayerWeight]] = {}
    for one in manifest.weights:
        weights.setdefault(one.layer, []).append(one)
    kept = any(one.method == "migration" and one.kept for one in manifest.improvements)
    notes = {}
    for name in manifest.plan:
        told = [*dict.fromkeys(map(_weight_text, weights.get(name, ())))]
        if kept and name in migrated:
            told.append("spread of activations moved in")
        if told:
            notes[name] = "weight: " + ", ".join(told)
    return notes


def _weight_text(weight: LayerWeight) -> str:
    method = _ROUNDED.get(weight.rounding, weight.rounding)
    if weight.error is None:
        return method
    saved = 1 - weight.error
    return f"{method}, error {percent(saved)} less" if saved >= 0.005 else method


_ROUNDED = {
    "reconstruction": "reconstructed",
    "second order": "second-order rounding",
    "second order on a fitted grid": "second-order rounding on a fitted grid",
}
