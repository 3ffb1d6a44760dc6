"""How `narrowcast inspect` looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["print_inspection"]


def print_inspection(screen: Console, found: Mapping[str, Any]) -> None:
    """Layers with their costs, then what is left alone."""
    table = Table("layer", "op", "weight", "MACs", "weight bytes", title="layers", title_justify="left")
    for layer in found["layers"]:
        shape = ", ".join("x".join(map(str, dims)) for dims in layer["weight_shapes"]) or "-"
        macs = "unknown" if layer["layer"] in found["open"] else f"{layer['macs']:,}"
        table.add_row(escape(layer["layer"]), layer["op"], shape, macs, f"{layer['weight_bytes']:,}")
    screen.print(table)
    total = found["total"]
    macs = "MACs unknown (open sizes follow from data)" if found["open"] else f"{total['macs']:,} MACs a sample"
    screen.print(f"{len(found['layers'])} layers, {macs}, {total['weight_bytes']:,} weight bytes", highlight=False)
    for name, role in found["signature"].items():
        screen.print(f"{name}: {role}", highlight=False, markup=False)
    for state in found["states"]:
        name, _, output = state.partition("=")
        told = f"{name}: looks like a state that {output} gives for the next step; if it is one, add --state {state}"
        screen.print(told, highlight=False, markup=False)
    for entry in found["left_alone"]:
        screen.print(f"left alone: {entry['nodes']} {entry['op']}: {entry['why']}", highlight=False)
