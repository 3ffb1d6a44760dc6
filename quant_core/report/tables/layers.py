"""The layers as the report lists them: precision, cost, loss alone, and what was done to their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.model.layers import layers_from_table
from quant_core.model.other_products import other_products
from quant_core.report.limits import short
from quant_core.report.sentences.improvements import layer_notes
from quant_core.report.sentences.kernels import runs_as
from quant_core.report.text import count_text, interval, number
from quant_core.storage.tables import facts

__all__ = ["LayerRow", "layer_rows"]


@dataclass(frozen=True)
class LayerRow:
    """One layer, in graph order."""

    number: int
    """Its place, counted from one."""
    name: str
    """Of its first node."""
    op: str
    """Operator type."""
    shape: str
    """Of its weight."""
    precision: str
    """In the model that is given out."""
    narrow: bool
    """Whether that is not the wide one."""
    runs_as: str
    """What it runs as in its runtime; empty where that is not known."""
    note: str
    """What was done to its weight beyond rounding to nearest, and what that gave; empty for nothing."""
    boundary: str
    """The precision of the layer before it in graph order, where it differs."""
    macs: str
    """For one sample."""
    share: float
    """Of all MACs."""
    losses: tuple[str, ...]
    """What narrowing it alone costs, one text for each precision that was probed."""
    places: tuple[str, ...]
    """Its place in the ranking, one for each precision that was probed."""


def layer_rows(manifest: Manifest, layers: pa.Table, sensitivity: pa.Table) -> list[LayerRow]:
    """Every layer with its precision and what is known of it."""
    listed, plan, kernels = layers_from_table(layers), manifest.plan, runs_as(manifest)
    notes = layer_notes(manifest, facts(layers).get("migrated_layers", ()))
    total = sum(layer.macs for layer in listed) + sum(one.macs or 0 for one in other_products(layers)) or 1
    probes: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for place, row in enumerate(sensitivity.to_pylist(), start=1):
        probes.setdefault(row["layer"], []).append((place, row))
    rows, before = [], None
    for place, layer in enumerate(listed, start=1):
        precision = plan.get(layer.name, manifest.wide)
        found = probes.get(layer.name, [])
        rows.append(
            LayerRow(
                number=place,
                name=short(layer.name),
                op=layer.op,
                shape=", ".join("\N{MULTIPLICATION SIGN}".join(map(str, dims)) for dims in layer.weight_shapes),
                precision=precision,
                narrow=precision != manifest.wide,
                runs_as=kernels[layer.name].runs_as if layer.name in kernels else "",
                note=notes.get(layer.name, ""),
                boundary=before if before not in (None, precision) else "",
                macs=count_text(layer.macs),
                share=layer.macs / total,
                losses=tuple(_loss(row, len(manifest.narrow) > 1) for _, row in found),
                places=tuple(str(order) for order, _ in found),
            )
        )
        before = precision
    return rows


def _loss(row: Mapping[str, Any], several: bool) -> str:
    spread = interval(row["loss"], row["standard_error"])
    text = number(row["loss"]) + (f" ± {number((spread[1] - spread[0]) / 2, 2)}" if spread else "")
    return f"{row['precision']}: {text}" if several else text
