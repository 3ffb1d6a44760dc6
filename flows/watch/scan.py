"""A look at a watched folder: what is found of each model, and what is done about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from flows.ui.run_events import Ending, facts_of, reason_of, tell
from flows.watch.model_versions import Shelf
from flows.watch.watched_folder import Job, WatchedFolder
from quant_core.errors import IncompleteError, NarrowcastError, OutageError, TargetError
from quant_core.execution.progress import watcher
from quant_core.manifest import Manifest
from quant_core.report.verdict import verdict
from quant_core.results.outcome import Outcome
from quant_core.storage.store import Store

__all__ = ["Look", "WatchError", "looks_at"]

_UPLOAD_SECONDS = 600.0
"""For so long a model that cannot be read is taken for one that is still on its way."""

Run = Callable[[str, Job, str], Manifest]
"""Quantizes the model of a name and publishes it at an output URL; the manifest. Raises as `auto_mixed_precision`."""


@dataclass(frozen=True)
class Look:
    """What was found of one model, and what came of it."""

    name: str
    """The model's name in the folder."""
    state: Literal["met", "missed", "failed", "waiting", "done"]
    """Its target is met, or missed, by a run of this look; the run failed; the model is not whole yet; or nothing had
    to be done."""
    says: str
    """The verdict, or the reason, in a line."""
    output: str | None = None
    """The output folder, where there is one."""
    code: int = 0
    """What a command ends with that finds just this: 0, 1 after a bug or an outage, 2 bad input, 3 target missed."""

    def __str__(self) -> str:
        return f"{self.name}: {self.state}: {self.says}"


class WatchError(NarrowcastError):
    """Some models could not be quantized, or miss their targets; the others are done."""

    def __init__(self, looks: Sequence[Look]) -> None:
        wrong = [look for look in looks if look.code]
        super().__init__(f"{len(wrong)} of {len(looks)} models: {'; '.join(map(str, wrong))}")
        self.looks = tuple(looks)
        """All of them, in order."""
        self.code = min(look.code for look in wrong)
        """The exit code of the worst."""


def looks_at(
    watched: WatchedFolder, names: Sequence[str], output: Store, run: Run, settle_seconds: float
) -> Iterator[Look]:
    """What comes of each model, those that need no run first. Whatever goes wrong with one stops no other.

    A model that needs a run must stay as it is for `settle_seconds`, or else it is left for the next look.
    """
    began, to_do = time.monotonic(), list[tuple[str, Job]]()
    for name in names:
        shelf = Shelf(output / name.removesuffix(".onnx"))
        with _caught(watched, name, shelf) as caught:
            shelf.clear_leftovers()
            job = watched.job(name)
            manifest = shelf.finished(job.version)
            if manifest is None:
                to_do.append((name, job))
            else:
                shelf.point_to(job.version, manifest)
                caught.append(Look(name, "done", f"as before: {verdict(manifest)}", str(shelf.output(job.version))))
        yield from caught
    if to_do:
        time.sleep(max(settle_seconds - (time.monotonic() - began), 0.0))
        later = WatchedFolder.at(watched.place.url)
    for name, job in to_do:
        shelf = Shelf(output / name.removesuffix(".onnx"))
        with _caught(watched, name, shelf) as caught:
            if later.stamp(name) != watched.stamp(name):
                raise IncompleteError(f"{watched.place / name}: is still being written")
            watcher().noted(f"{name}: begins, for {job.config.target}")
            caught.append(_look_of_a_run(name, job, shelf, run))
        yield from caught


def _look_of_a_run(name: str, job: Job, shelf: Shelf, run: Run) -> Look:
    """Quantize a model, and put it on its shelf."""
    shelf.make_room(job.version)
    place = shelf.output(job.version)
    try:
        manifest = run(name, job, place.url)
    except TargetError as missed:
        if not isinstance(missed.outcome, Outcome):
            raise
        manifest = missed.outcome.manifest
    shelf.point_to(job.version, manifest)
    ending: Ending = "met" if manifest.target.met else "missed"
    tell(ending, job.model.url, place.url, **facts_of(manifest))
    return Look(name, ending, verdict(manifest), str(place), 0 if ending == "met" else 3)


@contextmanager
def _caught(watched: WatchedFolder, name: str, shelf: Shelf) -> Iterator[list[Look]]:
    """Turn what goes wrong with a model into a look; say what came of it, and tell of a failure."""
    looks: list[Look] = []
    try:
        yield looks
    except Exception as error:
        looks.append(_look_of_a_failure(watched, name, error))
    for look in looks:
        watcher().noted(str(look))
        if look.state == "failed":
            tell("failed", (watched.place / name).url, shelf.place.url, reason=look.says)


def _look_of_a_failure(watched: WatchedFolder, name: str, error: Exception) -> Look:
    if isinstance(error, IncompleteError) and WatchedFolder.at(watched.place.url).is_young(name, _UPLOAD_SECONDS):
        return Look(name, "waiting", f"{error}; looked at again next time")
    if isinstance(error, NarrowcastError) and not isinstance(error, OutageError):
        return Look(name, "failed", str(error), code=2)
    return Look(name, "failed", f"{reason_of(error)}; finished steps are kept", code=1)
