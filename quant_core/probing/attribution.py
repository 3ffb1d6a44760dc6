"""What costs a layer its bits: its activations, or its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from quant_core.precision import Precision
from quant_core.scoring.metrics import power_ratio

__all__ = ["LayerError", "LayerLoss", "layer_errors", "layer_losses"]


@dataclass(frozen=True)
class LayerLoss:
    """The loss of a layer at a precision, and what of it is due to its activations and its weights."""

    layer: str
    """Its name."""
    precision: str
    """The precision it alone was narrowed to."""
    loss: float
    """The loss of the model's output."""
    standard_error: float
    """Of the loss, over samples."""
    samples: int
    """Samples it was measured on."""
    activations: float | None
    """The loss with its activations alone narrow; None where no precision says that."""
    weights: float | None
    """The loss with its weights alone narrow, likewise."""
    activation_share: float | None
    """The part of the two losses that is the activations'; None where there are no two, or both are 0."""


@dataclass(frozen=True)
class LayerError:
    """The error of what a layer puts out, with all layers at a precision, as SQNR in dB; infinite without an error."""

    layer: str
    """Its name."""
    precision: str
    """The precision of all layers."""
    alone: float
    """The layer on the float model's tensors."""
    accumulated: float
    """The layer in the quantized model."""


def layer_errors(depth: pa.Table) -> list[LayerError]:
    """Return the errors of a table of schema DEPTH, in graph order."""
    return [
        LayerError(
            row["layer"],
            row["precision"],
            power_ratio(row["signal"], row["alone"]),
            power_ratio(row["signal"], row["accumulated"]),
        )
        for row in depth.to_pylist()
    ]


def layer_losses(ranking: pa.Table, wide: Precision, narrow: Sequence[Precision]) -> list[LayerLoss]:
    """Return the losses of all layers at some precisions, ascending.

    `ranking` (schema SENSITIVITY) has the probes of `narrow` and, where there are such, of their sides.
    """
    rows = ranking.to_pylist()
    known = {(row["layer"], row["precision"]): row["loss"] for row in rows}
    wanted = {str(precision): precision for precision in narrow}
    return [_layer_loss(row, wanted[row["precision"]], wide, known) for row in rows if row["precision"] in wanted]


def _layer_loss(
    row: Mapping[str, Any], precision: Precision, wide: Precision, known: Mapping[tuple[str, str], float]
) -> LayerLoss:
    sides = (None, None) if precision.activations.is_float else precision.sides(wide)
    activations, weights = (
        None if side is None else 0.0 if side == wide else known.get((row["layer"], str(side))) for side in sides
    )
    return LayerLoss(
        layer=row["layer"],
        precision=row["precision"],
        loss=row["loss"],
        standard_error=row["standard_error"],
        samples=row["samples"],
        activations=activations,
        weights=weights,
        activation_share=_share(activations, weights),
    )


def _share(activations: float | None, weights: float | None) -> float | None:
    if activations is None or weights is None:
        return None
    both = activations + weights
    return activations / both if both > 0 and math.isfinite(both) else None
