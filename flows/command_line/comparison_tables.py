"""Two runs side by side, as the terminal shows them."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_core.results.comparison import Comparison

__all__ = ["print_comparison"]


def print_comparison(screen: Console, found: Comparison) -> None:
    """Caveats first, then every line with what differs marked, then the layers whose precision differs."""
    for caveat in found.caveats:
        screen.print(f"[yellow]take care:[/] {caveat}", highlight=False, soft_wrap=True)
    table = Table("", escape(found.first), escape(found.second), title="runs", title_justify="left")
    for line in found.lines:
        style = "dim" if line.same else None
        table.add_row(escape(line.name), escape(line.first), escape(line.second), style=style)
    screen.print(table)
    if found.layers:
        screen.print(_layers(found))
    screen.print(f"{len(found.layers)} of {found.of} layers have another precision", highlight=False)


def _layers(found: Comparison) -> Table:
    table = Table("layer", escape(found.first), escape(found.second), title="layers that differ", title_justify="left")
    table.add_column("loss when narrow", justify="right")
    for layer in found.layers:
        table.add_row(escape(layer.layer), layer.first or "-", layer.second or "-", layer.loss)
    return table
