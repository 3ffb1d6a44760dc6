"""How the weights of a plan's layers became codes."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from quant_core.manifest import LayerWeight
from quant_core.precision import PrecisionPlan

__all__ = ["chosen_weights"]

_COLUMNS = ["layer", "weight", "type", "alone", "block", "precision", "rounding", "error"]


def chosen_weights(plan: PrecisionPlan, tables: Iterable[pa.Table]) -> tuple[LayerWeight, ...]:
    """Return the weights of a plan's layers that were not simply rounded to nearest.

    Of tables of schema WEIGHTS, as in the quantizer, a row for a precision comes before one for a type, and a later one
    before an earlier.
    """
    known = {}
    weights: dict[str, dict[str, None]] = {}
    for table in tables:
        for row in table.select(_COLUMNS).to_pylist():
            known[row["weight"], row["precision"] or (row["type"], row["alone"], row["block"])] = row
            weights.setdefault(row["layer"], {})[row["weight"]] = None
    found = []
    for layer, precision in plan.layers:
        kind = precision.weights.code, precision.is_weight_only, precision.block
        for name in weights.get(layer, ()):
            row = known.get((name, str(precision))) or known.get((name, kind))
            if row is not None and row["rounding"] != "nearest":
                found.append(LayerWeight(layer=layer, weight=name, rounding=row["rounding"], error=row["error"]))
    return tuple(found)
