"""What the next half decibel would cost, by the plans that a run has measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.text import COST_NAMES, metric_text, percent
from quant_core.storage.tables import facts

__all__ = ["half_decibel"]

_STEP = 0.5
_METRIC = "sqnr_db"


def half_decibel(manifest: Manifest, frontier: pa.Table) -> list[str]:
    """Return sentences on what half a decibel of SQNR more costs, and half a decibel less saves.

    None where no SQNR was measured. Other metrics are compared on the same scale: 0.5 dB are 5.6% of an L2 distance.
    """
    shipped = manifest.shipped_plan.digest
    known = [row for row in frontier.to_pylist() if row[_METRIC] is not None]
    now = next((row for row in known if row["plan"] == shipped), None)
    if now is None:
        return []
    cost = COST_NAMES[facts(frontier)["cost"]]
    better = [row for row in known if row[_METRIC] >= now[_METRIC] + _STEP]
    worse = [row for row in known if row[_METRIC] >= now[_METRIC] - _STEP and row["cost"] < now["cost"]]
    here = f"SQNR is {metric_text(_METRIC, now[_METRIC])} at {percent(now['cost_ratio'], 1)} of the {cost}."
    return [
        here,
        f"Half a decibel more costs {_step(now, better)}." if better else "No measured plan is half a decibel better.",
        f"Half a decibel less saves {_step(now, worse)}."
        if worse
        else "No cheaper plan within half a decibel was measured.",
    ]


def _step(now: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> str:
    """Say how far the cheapest of some plans is from the shipped one, in percentage points of the wide model's cost."""
    found = min(rows, key=lambda row: row["cost"])
    points = percent(abs(found["cost_ratio"] - now["cost_ratio"]), 1).rstrip("%")
    count = found["layers_narrowed"]
    return (
        f"{points} percentage points: {metric_text(_METRIC, found[_METRIC])} at "
        f"{percent(found['cost_ratio'], 1)}, with "
        f"{count} {'layer' if count == 1 else 'layers'} narrowed (plan {found['plan'][:8]})"
    )
