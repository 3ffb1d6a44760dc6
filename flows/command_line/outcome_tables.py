"""How a finished run looks on a terminal: its layers, its scores and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_core.errors import InputError
from quant_core.manifest import ByMetric, Manifest, Part
from quant_core.report.sentences.summary import summary
from quant_core.storage.tables import from_ipc

__all__ = ["print_outcome"]


def print_outcome(screen: Console, manifest: Manifest, folder: str) -> None:
    """Layers with their precision, scores, and the verdict."""
    screen.print()
    screen.print(_layers(manifest, Path(folder)), _scores(manifest))
    said = summary(manifest)
    colour = "green" if said.good else "red"
    screen.print(f"[bold {colour}]{said.headline}.[/] {escape(said.verdict)}", highlight=False, soft_wrap=True)
    for sentence in filter(None, [said.doubt, *said.details]):
        screen.print(sentence, highlight=False, soft_wrap=True, markup=False)
    screen.print(f"model and report are in {escape(folder)}", highlight=False, soft_wrap=True)


def _layers(manifest: Manifest, folder: Path) -> Table:
    """The plan, and by how much each layer's narrowing alone changes the output."""
    losses = _losses(folder, manifest)
    table = Table("layer", "precision", title="layers", title_justify="left")
    if losses:
        table.add_column("loss when narrow", justify="right")
    for layer, precision in manifest.plan.items():
        style = None if precision == manifest.wide else "green"
        loss = [f"{losses[layer]:.3g}" if layer in losses else ""] if losses else []
        table.add_row(escape(layer), precision, *loss, style=style)
    return table


def _losses(folder: Path, manifest: Manifest) -> dict[str, float]:
    """Loss of each probed layer at the precision it has, or for a wide one, at the first it was refused."""
    try:
        ranking = from_ipc((folder / "sensitivity.arrow").read_bytes()).to_pylist()
    except (OSError, InputError):
        return {}
    plan, first = manifest.plan, next(iter(manifest.narrow), None)
    shown = {layer: first if precision == manifest.wide else precision for layer, precision in plan.items()}
    return {row["layer"]: row["loss"] for row in ranking if shown.get(row["layer"]) == row["precision"]}


_PARTS: Mapping[Part, str] = {"float": "float", "wide": "wide", "mixed": "mixed", "holdout": "mixed, held-out"}


def _scores(manifest: Manifest) -> Table:
    scores = {part: manifest.scores.of(part) for part in _PARTS if manifest.scores.of(part)}
    table = Table("metric", title="scores", title_justify="left", caption_justify="left")
    for part in scores:
        table.add_column(_PARTS[part], justify="right")
    for name in dict.fromkeys(name for found in scores.values() for name in found):
        table.add_row(name, *(_score(found, name) for found in scores.values()))
    if "holdout" in scores:
        table.caption = "held-out: the same mixed model on the data the search never saw"
    return table


def _score(found: ByMetric, name: str) -> str:
    if name not in found:
        return ""
    score = found[name]
    return "nan" if score is None else f"{score:.5g}"
