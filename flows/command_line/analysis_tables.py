"""How `narrowcast analyse` looks on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_core.pipeline.analyse import Analysis

__all__ = ["print_analysis"]

_ROWS = 20


def print_analysis(screen: Console, found: Analysis, folder: str) -> None:
    """The largest losses, the widest tensors, and where the rest is."""
    screen.print()
    screen.print(_losses(found))
    if found.depth:
        screen.print(_depth(found))
    if found.outliers:
        screen.print(_outliers(found))
    else:
        screen.print("no tensor has outliers", highlight=False)
    screen.print(f"the page is {escape(folder)}/analysis.html", highlight=False, soft_wrap=True)


def _losses(found: Analysis) -> Table:
    shown = found.losses[::-1][:_ROWS]
    table = Table(title=f"the largest {len(shown)} of {len(found.losses)} losses", title_justify="left")
    for name in ("layer", "precision", "loss", "activations alone", "weights alone"):
        table.add_column(name, justify="left" if name in ("layer", "precision") else "right")
    for loss in shown:
        sides = ("" if side is None else f"{side:.3g}" for side in (loss.activations, loss.weights))
        table.add_row(escape(loss.layer), loss.precision, f"{loss.loss:.3g}", *sides)
    return table


def _depth(found: Analysis) -> Table:
    shown = sorted(found.depth, key=lambda error: error.alone)[:_ROWS]
    title = f"what the {len(shown)} worst of {len(found.depth)} layers put out, all layers at one precision"
    table = Table("layer", "precision", "SQNR alone (dB)", "accumulated", title=title, title_justify="left")
    for one in shown:
        table.add_row(escape(one.layer), one.precision, f"{one.alone:.2f}", f"{one.accumulated:.2f}")
    return table


def _outliers(found: Analysis) -> Table:
    shown = found.outliers[:_ROWS]
    title = f"the widest {len(shown)} of {len(found.outliers)} tensors with outliers"
    table = Table("tensor", "largest magnitude", "99.9% within", "ratio", title=title, title_justify="left")
    for one in shown:
        table.add_row(escape(one.tensor), f"{one.largest:.4g}", f"{one.bulk:.4g}", f"{one.ratio:.3g}")
    return table
