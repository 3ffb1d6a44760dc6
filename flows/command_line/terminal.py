"""What a person sees while a run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flows.command_line.progress_lines import ProgressLines
from quant_core.config import Criterion
from quant_core.execution.progress import Watcher

__all__ = ["NoteWatcher", "TerminalWatcher", "WarningWatcher", "console"]


def console() -> Console:
    """The terminal; colours only where there is one, as wide as a table needs where there is none."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=120)


class WarningWatcher(Watcher):
    """Tells of what was mended, on standard error, and of nothing else."""

    def __init__(self) -> None:
        self._errors = Console(stderr=True, soft_wrap=True, highlight=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs."""
        yield

    def warned(self, message: str) -> None:
        """Print one line."""
        self._errors.print(f"narrowcast: {escape(message)}")


class NoteWatcher(WarningWatcher):
    """Tells of what is worth a line, too."""

    def noted(self, message: str) -> None:
        """Print one line."""
        console().print(message, highlight=False, soft_wrap=True, markup=False)


@dataclass
class _Done:
    """A stage that is over, or several calls of one."""

    name: str
    seconds: float = 0.0
    cached: bool = True


class TerminalWatcher(WarningWatcher):
    """Shows stages as they finish, a bar for the one that runs, and each plan the search tries."""

    def __init__(self, screen: Console, target: Criterion) -> None:
        super().__init__()
        self._screen, self._target = screen, target
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=screen,
            transient=True,
            disable=not screen.is_terminal,
        )
        self._stage, self._bar = "start", self._progress.add_task("start", total=None)
        self._done: _Done | None = None
        self._exported = False
        self._plan_width = 28
        self._lines = None if screen.is_terminal else ProgressLines(screen)
        self._lock = Lock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs."""
        with self._progress:
            yield
        self._print_done()

    def started(self, stage: str) -> None:
        """Show a bar that only moves to and fro until it is known how much there is to do."""
        if self._done and self._done.name != self._name(stage):
            self._print_done()
        with self._lock:
            if stage != self._stage or self._progress.tasks[-1].finished:
                self._begin(stage)

    def _begin(self, stage: str) -> None:
        self._progress.remove_task(self._bar)
        self._stage, self._bar = stage, self._progress.add_task(self._name(stage), total=None)
        if self._lines:
            self._lines.begin(self._name(stage))

    def finished(self, stage: str, seconds: float, cached: bool) -> None:
        """Note the stage's time; the plans that the search tries have lines of their own."""
        self._exported |= stage == "export"
        if stage != "search":
            self._done = self._done or _Done(self._name(stage))
            self._done.seconds += seconds
            self._done.cached &= cached

    def _name(self, stage: str) -> str:
        """What a stage is called here: once there is a model, baseline and verify are about held-out data."""
        held_out = stage == "baseline" or (stage == "verify" and self._done and self._done.name == "held-out")
        return "held-out" if self._exported and held_out else stage

    def _print_done(self) -> None:
        if self._done:
            took = "from an earlier run" if self._done.cached else f"{self._done.seconds:.1f} s"
            self._screen.print(f"{self._done.name:<10} {took}", highlight=False)
        self._done = None

    def expects(self, stage: str, units: int) -> None:
        """Lengthen the bar; how much a stage has to do may be known before it starts."""
        with self._lock:
            if stage not in (self._stage, "evaluate"):
                self._begin(stage)
            total = self._progress.tasks[-1].total or 0
            self._progress.update(self._bar, total=total + units)
            if self._lines:
                self._lines.lengthen(units)

    def advanced(self, stage: str, units: int) -> None:
        """Lengthen the filled part."""
        self._progress.advance(self._bar, units)
        if self._lines:
            with self._lock:
                self._lines.advance(units)

    def tried(self, plan: str, score: float, accepted: bool) -> None:
        """Print one line a plan."""
        self._print_done()
        verdict = "[green]accepted[/]" if accepted else "[red]refused[/]"
        self._plan_width = max(self._plan_width, len(plan))
        name = self._target.function or self._target.metric
        self._screen.print(f"  {plan:<{self._plan_width}} {name} {score:<10.5g} {verdict}", highlight=False)

    def noted(self, message: str) -> None:
        """Print one line."""
        self._screen.print(f"  {escape(message)}", highlight=False, soft_wrap=True)
