"""What the rows of a frontier say, whichever release wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quant_core.precision import PrecisionPlan

__all__ = ["Row", "costs_of_plan", "plan_of_row"]

Row = Mapping[str, Any]
"""A plan of the frontier (schema FRONTIER)."""


def plan_of_row(row: Row) -> PrecisionPlan:
    """Return the plan of a row; one of an earlier release names no tensors."""
    return PrecisionPlan.from_dict(json.loads(row["precisions"]), json.loads(row.get("tensors") or "{}"))


def costs_of_plan(row: Row, cost: str) -> dict[str, float]:
    """Return the costs of a plan by name; `cost` is the one that the frontier is of.

    It is the only one known where an earlier release wrote the row.
    """
    return {**json.loads(row.get("costs") or "{}"), cost: row["cost"]}
