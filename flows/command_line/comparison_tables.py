"""Two runs or model files side by side, as the terminal shows them."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_core.results.comparison import Comparison
from quant_core.runtimes.layer_precisions import UNKNOWN

__all__ = ["print_comparison"]

_TENSORS = 20
"""Tensors that are listed."""


def print_comparison(screen: Console, found: Comparison) -> None:
    """Caveats first, then every line with what differs marked, then layers, tensors and samples that differ."""
    for caveat in found.caveats:
        screen.print(f"[yellow]take care:[/] {escape(caveat)}", highlight=False, soft_wrap=True)
    table = _table("", found, found.kind)
    for line in found.lines:
        style = "dim" if line.same else None
        table.add_row(escape(line.name), escape(line.first), escape(line.second), style=style)
    screen.print(table)
    if found.layers:
        screen.print(_layers(found))
    screen.print(f"{len(found.layers)} of {found.of} layers differ in precision", highlight=False)
    if found.tensors:
        screen.print(_tensors(found))
        screen.print(f"of {len(found.tensors)} tensors; --out and --json have all", highlight=False)
    if found.samples:
        screen.print(_samples(found))


def _table(name: str, found: Comparison, title: str) -> Table:
    return Table(name, escape(found.first), escape(found.second), title=title, title_justify="left")


def _layers(found: Comparison) -> Table:
    table, probed = _table("layer", found, "layers that differ"), found.kind == "runs"
    if probed:
        table.add_column("loss when narrow", justify="right")
    for layer in found.layers:
        loss = [layer.loss] if probed else []
        table.add_row(escape(layer.layer), layer.first or "-", layer.second or "-", *loss)
    return table


def _tensors(found: Comparison) -> Table:
    """List some tensors, of those known in both if there are any, spread over the depth."""
    table = _table("tensor", found, "SQNR in dB of tensors inside, all optimisations off")
    both = [one for one in found.tensors if UNKNOWN not in (one.first, one.second)] or list(found.tensors)
    step = -(-len(both) // _TENSORS)
    for tensor in both[::step]:
        table.add_row(escape(tensor.name), tensor.first, tensor.second)
    return table


def _samples(found: Comparison) -> Table:
    columns = ("sample", "label", "float", escape(found.first), escape(found.second), "L2 between them")
    table = Table(*columns, title="samples that are answered most differently", title_justify="left")
    for sample in found.samples:
        table.add_row(str(sample.sample), sample.label, *map(escape, sample.answers), sample.distance)
    return table
