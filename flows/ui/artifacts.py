"""What a run shows in Prefect's UI.

It is the flow that makes it, not its tasks: so a run that finds everything computed shows it too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from quant_core.execution.progress import Relay, Watcher, watched_by, watcher
from quant_core.report.limits import short
from quant_core.report.markdown import verdict_markdown
from quant_core.results.outcome import Outcome
from quant_core.urls import is_remote, redacted

__all__ = ["publish", "show_probing"]

_ROWS = 500
"""Rows of the sensitivity table: the UI draws them all at once."""
_SECONDS = 2.0
"""Between two updates of the progress."""


def publish(outcome: Outcome) -> None:
    """The verdict, the sensitivity table, and links to the model and the report."""
    create_markdown_artifact(_verdict(outcome), key="narrowcast-verdict", description="What came of the run")
    rows = _sensitivity(outcome)
    create_table_artifact(
        rows[:_ROWS],
        key="narrowcast-sensitivity",
        description="What narrowing each layer alone costs, from the least on"
        + (f"; the first {_ROWS} of {len(rows)}" if len(rows) > _ROWS else ""),
    )
    place = _place(outcome)
    for name, file in {"model": outcome.model, "report": outcome.report}.items():
        path = f"{place.rstrip('/')}/{file.name}"
        link, hint = (path, "") if is_remote(place) else (Path(path).as_uri(), _LOCAL)
        create_link_artifact(link, path, key=f"narrowcast-{name}", description=f"The {name} of the run{hint}")


_LOCAL = "; copy the path: from a page, browsers open no file"


def _place(outcome: Outcome) -> str:
    """The output's URL without what may be secret, or its folder as an absolute path."""
    place = outcome.manifest.sources.output or str(outcome.folder)
    return redacted(place) if is_remote(place) else str(Path(place).resolve())


def _verdict(outcome: Outcome) -> str:
    return f"{verdict_markdown(outcome.manifest)}\n\nModel, tables and report: `{_place(outcome)}`"


def _sensitivity(outcome: Outcome) -> list[dict[str, Any]]:
    """The probes, in the order of the ranking; the UI's table knows no infinity and no NaN."""
    plan = outcome.manifest.plan
    return [
        {
            "layer": short(row["layer"]),
            "narrowed to": row["precision"],
            "loss": _finite(row["loss"]),
            "standard error": _finite(row["standard_error"]),
            "samples": row["samples"],
            "shipped as": plan.get(row["layer"], ""),
        }
        for row in outcome.table("sensitivity").to_pylist()
    ]


def _finite(value: float) -> float | str:
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


@contextmanager
def show_probing() -> Iterator[None]:
    """Show how far probing is, as a progress artifact, while the block runs; other watchers still hear all."""
    progress = ProbingProgress(watcher())
    with watched_by(progress):
        yield
    progress.complete()


class ProbingProgress(Relay):
    """Keeps a progress artifact of the probes, made when probing has taken a while or is complete."""

    def __init__(self, listener: Watcher, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(listener)
        self._clock = clock
        self._artifact: UUID | None = None
        self._done = self._total = 0
        self._told: float | None = None
        self._lock = Lock()

    def started(self, stage: str) -> None:
        """Note when probing begins."""
        if stage == "probe" and self._told is None:
            self._told = self._clock()
        super().started(stage)

    def expects(self, stage: str, units: int) -> None:
        """Probing is so much longer."""
        self._total += units if stage == "probe" else 0
        super().expects(stage, units)

    def advanced(self, stage: str, units: int) -> None:
        """Tell how far it is, if that was not told just now."""
        super().advanced(stage, units)
        if stage == "probe" and self._is_time(units):
            self._tell(min(self._done / max(self._total, 1), 1.0))

    def _is_time(self, units: int) -> bool:
        with self._lock:
            self._done += units
            now = self._clock()
            due = self._told is not None and now - self._told >= _SECONDS
            self._told = now if due else self._told
        return due

    def complete(self) -> None:
        """Nothing is left to probe: all of it was done, now or by an earlier run."""
        if self._told is not None:
            self._tell(1.0)

    def _tell(self, share: float) -> None:
        progress = round(100 * share, 1)
        if self._artifact is None:
            text = "How far probing the layers is"
            made = create_progress_artifact(progress, key="narrowcast-probing", description=text)
            self._artifact = cast("UUID", made)
        else:
            update_progress_artifact(self._artifact, progress)
