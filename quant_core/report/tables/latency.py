"""How long each layer takes, at the wide precision and as shipped, where the run measured it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from quant_core.latency import LATENCY
from quant_core.manifest import Manifest
from quant_core.report.limits import LISTED, short
from quant_core.report.text import cost_text

__all__ = ["LatencyRow", "latency_rows", "latency_totals"]


@dataclass(frozen=True)
class LatencyRow:
    """One layer."""

    name: str
    """Of its first node."""
    precision: str
    """In the shipped model."""
    wide: str
    """What a sample takes in it when it is wide."""
    shipped: str
    """What a sample takes in it as shipped."""
    wide_share: float
    """The first as a share of the longest of all layers."""
    shipped_share: float
    """The second likewise."""


def latency_rows(manifest: Manifest, latency: pa.Table) -> list[LatencyRow]:
    """Return the layers in which most time is won or lost, that with the largest difference first."""
    taken = _taken(latency)
    known = {
        name: (taken[name, manifest.wide], taken[name, at])
        for name, at in manifest.plan.items()
        if {(name, manifest.wide), (name, at)} <= taken.keys()
    }
    longest = max((max(pair) for pair in known.values()), default=0.0) or 1.0
    names = sorted(known, key=lambda name: -abs(known[name][0] - known[name][1]))[:LISTED]
    return [
        LatencyRow(
            name=short(name),
            precision=manifest.plan[name],
            wide=cost_text(LATENCY, known[name][0]),
            shipped=cost_text(LATENCY, known[name][1]),
            wide_share=known[name][0] / longest,
            shipped_share=known[name][1] / longest,
        )
        for name in names
    ]


def latency_totals(manifest: Manifest, latency: pa.Table) -> str:
    """Return a sentence on what all layers take together, and on what is added by what lies between them."""
    taken, cost = _taken(latency), manifest.costs.of(LATENCY)
    layers = sum(taken.get((name, at), 0.0) for name, at in manifest.plan.items())
    return (
        f"All layers take {cost_text(LATENCY, layers)} of the {cost_text(LATENCY, cost.mixed)} of the shipped model; "
        f"the rest is in other operators and at boundaries between precisions. All {manifest.wide}, the model takes "
        f"{cost_text(LATENCY, cost.wide)}."
    )


def _taken(latency: pa.Table) -> dict[tuple[str, str], float]:
    return {(row["layer"], row["precision"]): row["milliseconds"] for row in latency.to_pylist()}
