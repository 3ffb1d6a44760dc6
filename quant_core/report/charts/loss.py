"""The chart of losses: what narrowing each layer alone costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.limits import POINTS, foremost, short
from quant_core.report.text import interval, number

__all__ = ["drawn_losses", "loss_chart"]

Json = dict[str, Any]


def loss_chart(manifest: Manifest, layers: pa.Table, sensitivity: pa.Table) -> Json:
    """A point a probe: the layer's number in graph order, its loss with its interval, and whether it was taken."""
    names = layers.column("layer").to_pylist()
    index = {name: place for place, name in enumerate(names, start=1)}
    points = [
        _loss_point(manifest, row, order, index[row["layer"]], len(names))
        for order, row in enumerate(sensitivity.to_pylist(), start=1)
        if row["layer"] in index and math.isfinite(row["loss"])
    ]
    drawn = drawn_losses(points, len(names), str(manifest.config.get("rank", "mse")))
    return drawn | {"wide": manifest.wide, "narrow": list(manifest.narrow)}


def drawn_losses(points: Sequence[Json], layers: int, rank: str) -> Json:
    """Return what every chart of losses has: the points with the largest losses, in graph order, and the axes.

    Args:
        points: one a probe, with its `layer`, its place in the `order` of losses, and its `loss`.
        layers: how many layers the model has.
        rank: name of the loss.

    """
    positive = [point["loss"] for point in points if point["loss"] > 0]
    shown = foremost(points, POINTS, lambda point: point["loss"])
    return {
        "points": sorted(shown, key=lambda point: (point["layer"], point["order"])),
        "of": len(points),
        "layers": layers,
        "log": bool(positive) and max(positive) > 20 * min(positive),
        "label": f"Loss ({rank}) when narrowed alone",
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
