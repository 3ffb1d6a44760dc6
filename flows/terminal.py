"""What a person sees while a run goes on, and at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from quant_core.config import Target
from quant_core.progress import Watcher

__all__ = ["TerminalWatcher", "console", "print_inspection", "print_outcome"]


def console(quiet: bool = False) -> Console:
    """The terminal; colours only where there is one, as wide as a table needs where there is none."""
    screen = Console(quiet=quiet, stderr=False)
    return screen if screen.is_terminal else Console(quiet=quiet, width=120)


class TerminalWatcher(Watcher):
    """Shows stages as they finish, a bar for the one that runs, and each plan the search tries."""

    def __init__(self, console: Console, target: Target) -> None:
        self._console, self._target = console, target
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._lock = Lock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs."""
        with self._progress:
            yield

    def finished(self, stage: str, seconds: float, cached: bool) -> None:
        """Replace the stage's bar by a line."""
        with self._lock:
            bar = self._bars.pop(stage, None)
            if bar is not None:
                self._progress.remove_task(bar)
        took = "from an earlier run" if cached else f"{seconds:.1f} s"
        self._console.print(f"{stage:<10} {took}", highlight=False)

    def expects(self, stage: str, units: int) -> None:
        """Start or lengthen the stage's bar."""
        with self._lock:
            if stage not in self._bars:
                self._bars[stage] = self._progress.add_task(stage, total=0)
            bar = self._bars[stage]
            total = self._progress.tasks[self._progress.task_ids.index(bar)].total or 0
            self._progress.update(bar, total=total + units)

    def advanced(self, stage: str, units: int) -> None:
        """Lengthen the filled part."""
        with self._lock:
            if stage in self._bars:
                self._progress.advance(self._bars[stage], units)

    def tried(self, layers_narrowed: int, layers: int, score: float, accepted: bool) -> None:
        """Print one line a plan."""
        verdict = "[green]accepted[/]" if accepted else "[red]refused[/]"
        name = self._target.function or self._target.metric
        self._console.print(f"  {layers_narrowed} of {layers} layers: {name} {score:.5g} {verdict}", highlight=False)


def print_outcome(console: Console, manifest: Mapping[str, Any], folder: str) -> None:
    """Layers with their precision, scores, and the verdict."""
    console.print(_layers(manifest), _scores(manifest["scores"]))
    narrowed, target = manifest["narrowed"], manifest["target"]
    met = "[bold green]target met[/]" if target["met"] else "[bold red]target missed[/]"
    console.print(
        f"{met} ({Target(**{key: target[key] for key in ('metric', 'limit', 'function')})}): "
        f"{narrowed['layers']} of {narrowed['of']} layers narrowed, {narrowed['macs_share']:.1%} of the MACs, "
        f"bit operations x {narrowed['bops_ratio']:.2f}",
        highlight=False,
    )
    console.print(f"model and report are in {folder}", highlight=False, soft_wrap=True)


def _layers(manifest: Mapping[str, Any]) -> Table:
    table = Table("layer", "precision", title="layers", title_justify="left")
    for layer, precision in manifest["plan"].items():
        style = None if precision == manifest["wide"] else "green"
        table.add_row(layer, precision, style=style)
    return table


def _scores(scores: Mapping[str, Mapping[str, float]]) -> Table:
    parts = [part for part in ("float", "wide", "mixed", "holdout") if scores[part]]
    table = Table("metric", *parts, title="scores", title_justify="left")
    names = dict.fromkeys(name for part in parts for name in scores[part])
    for name in names:
        table.add_row(name, *(f"{scores[part][name]:.5g}" if name in scores[part] else "" for part in parts))
    return table


def print_inspection(screen: Console, found: Mapping[str, Any]) -> None:
    """Layers with their costs, then what is left alone."""
    table = Table("layer", "op", "weight", "MACs", "weight bytes", title="layers", title_justify="left")
    for layer in found["layers"]:
        shape = "x".join(map(str, layer["weight_shape"])) or "-"
        table.add_row(layer["layer"], layer["op"], shape, f"{layer['macs']:,}", f"{layer['weight_bytes']:,}")
    screen.print(table)
    total = found["total"]
    screen.print(
        f"{len(found['layers'])} layers, {total['macs']:,} MACs a sample, {total['weight_bytes']:,} weight bytes",
        highlight=False,
    )
    for entry in found["left_alone"]:
        screen.print(f"left alone: {entry['nodes']} {entry['op']}: {entry['why']}", highlight=False)
