"""The page of an analysis: the losses of all layers, and the values of the tensors, those with outliers first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from quant_core.calibration.outliers import TensorSpread
from quant_core.probing.attribution import LayerError, LayerLoss
from quant_core.report.charts.loss import drawn_losses
from quant_core.report.charts.tensors import tensor_charts
from quant_core.report.limits import LISTED, POINTS, ROWS, short
from quant_core.report.rendering import rendered
from quant_core.report.text import interval, number, percent

__all__ = ["analysis_page"]


def analysis_page(
    title: str,
    wide: str,
    rank: str,
    losses: Sequence[LayerLoss],
    depth: Sequence[LayerError],
    spreads: Sequence[TensorSpread],
    weights: Sequence[TensorSpread],
    layers: pa.Table,
    calibration: pa.Table,
) -> str:
    """Return the page as one self-contained file.

    Args:
        title: what the model is called.
        wide: the precision of the layers that are not probed.
        rank: the name of the loss.
        losses: of all layers, ascending.
        depth: errors of what layers put out, in graph order.
        spreads: of all tensors, the widest first.
        weights: of all weights, the widest first.
        layers: schema LAYERS.
        calibration: schema CALIBRATION, with the ranges of types.

    """
    order = {spread.tensor: place for place, spread in enumerate(spreads)}
    rows = [order[name] for name in calibration.column("tensor").to_pylist()]
    widest_first = calibration.take(sorted(range(len(rows)), key=lambda row: rows[row]))
    return rendered(
        "analysis.html.jinja",
        {
            "loss": _loss_chart(losses, layers.column("layer").to_pylist(), rank),
            "depth": _depth_chart(depth),
            "tensors": tensor_charts({}, layers, widest_first),
        },
        title=title,
        wide=wide,
        losses=[_row(loss) for loss in reversed(losses[-ROWS:])],
        all_losses=len(losses),
        errors=[_error_row(error) for error in depth[:ROWS]],
        all_errors=len(depth),
        outliers=[spread for spread in spreads if spread.has_outliers][:LISTED],
        wide_weights=[spread for spread in weights if spread.has_outliers][:LISTED],
        first_tensor=short(spreads[0].tensor) if spreads else None,
        number=number,
        short=short,
    )


def _depth_chart(depth: Sequence[LayerError]) -> dict[str, Any]:
    """Return for each precision and layer, in graph order, the two errors that can be drawn: those that are finite."""
    precisions = list(dict.fromkeys(error.precision for error in depth))
    places = dict.fromkeys(precisions, 0)
    points = []
    for error in depth:
        places[error.precision] += 1
        if math.isfinite(error.alone) and math.isfinite(error.accumulated):
            points.append(_depth_point(error, places[error.precision]))
    return {
        "points": points[:POINTS],
        "layers": max(places.values(), default=0),
        "precisions": precisions,
        "of": len(points),
        "axis": "layer",
    }


def _depth_point(error: LayerError, layer: int) -> dict[str, Any]:
    return {
        "layer": layer,
        "precision": error.precision,
        "alone": error.alone,
        "accumulated": error.accumulated,
        "text": [
            short(error.layer),
            f"All layers at {error.precision}",
            f"SQNR of what it puts out: {number(error.accumulated)} dB, {number(error.alone)} dB on float tensors",
        ],
    }


def _error_row(error: LayerError) -> Mapping[str, str]:
    return {
        "layer": short(error.layer),
        "precision": error.precision,
        "alone": number(error.alone),
        "accumulated": number(error.accumulated),
    }


def _loss_chart(losses: Sequence[LayerLoss], names: Sequence[str], rank: str) -> dict[str, Any]:
    """Return a point a probe: its layer's place in the graph, its loss with its interval, and what it is due to."""
    place = {name: number for number, name in enumerate(names, start=1)}
    points = [
        _point(loss, order, place[loss.layer]) for order, loss in enumerate(losses, 1) if math.isfinite(loss.loss)
    ]
    return drawn_losses(points, len(names), rank) | {"narrow": sorted({loss.precision for loss in losses})}


def _point(loss: LayerLoss, order: int, layer: int) -> dict[str, Any]:
    low, high = interval(loss.loss, loss.standard_error) or (loss.loss, loss.loss)
    share = loss.activation_share
    return {
        "layer": layer,
        "order": order,
        "precision": loss.precision,
        "loss": loss.loss,
        "low": low,
        "high": high,
        "taken": share is not None and share > 0.5,
        "narrowed": share is None or share > 0.5,
        "text": [
            short(loss.layer),
            f"Loss at {loss.precision}: {number(loss.loss)}",
            f"Place {order} in the ranking, {loss.samples:,} samples",
            *([] if share is None else [f"{percent(share)} of it due to activations, {percent(1 - share)} to weights"]),
        ],
    }


def _row(loss: LayerLoss) -> Mapping[str, str]:
    def told(value: float | None) -> str:
        return "" if value is None else number(value)

    share = loss.activation_share
    return {
        "layer": short(loss.layer),
        "precision": loss.precision,
        "loss": number(loss.loss),
        "activations": told(loss.activations),
        "weights": told(loss.weights),
        "cause": "" if share is None else "activations" if share > 0.5 else "weights",
    }
