"""One scan of a watched folder: quantize the models that are new or changed, and return a result for each model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from flows.ui.run_events import facts_of, reason_of, tell
from flows.watch.model_versions import ModelVersions
from flows.watch.staggered_runs import Call, staggered
from flows.watch.watched_folder import Job, WatchedFolder
from quant_core.errors import IncompleteError, NarrowcastError, OutageError, TargetError
from quant_core.execution.progress import Relay, Watcher, watched_by, watcher
from quant_core.manifest import Manifest
from quant_core.report.sentences.verdict import verdict
from quant_core.results.outcome import Outcome
from quant_core.storage.store import Store

__all__ = ["ScanResult", "WatchError", "scan"]

_UPLOAD_SECONDS = 600.0
"""A model that cannot be read and is younger than this is taken for one that is still being uploaded."""

_LARGEST_BESIDE = 64 << 20
"""Bytes of a model that may run beside another one: two larger ones are not to be in memory at once, and they compute
for so long that the rest of a run hardly counts."""

Run = Callable[[str, Job, str], Manifest]
"""Quantizes the model of a name, publishes it at an output URL and returns its manifest. Raises what
`auto_mixed_precision` raises."""


@dataclass(frozen=True)
class ScanResult:
    """What a scan found of one model, and what it did about it."""

    name: str
    """The model's name in the folder."""
    state: Literal["met", "missed", "failed", "waiting", "done"]
    """`met` and `missed`: this scan ran the model, and its target is met or cannot be met. `failed`: the run failed.
    `waiting`: the model is not complete yet. `done`: there was nothing to do."""
    says: str
    """The verdict or the reason, in one line."""
    output: str | None = None
    """The output folder, if there is one."""
    code: int = 0
    """The exit code of a command that finds only this: 0, 1 after a bug or an outage, 2 bad input, 3 target missed."""

    def __str__(self) -> str:
        return f"{self.name}: {self.state}: {self.says}"


class WatchError(NarrowcastError):
    """Some models could not be quantized, or miss their targets; the others are done."""

    def __init__(self, results: Sequence[ScanResult]) -> None:
        wrong = [result for result in results if result.code]
        super().__init__(f"{len(wrong)} of {len(results)} models: {'; '.join(map(str, wrong))}")
        self.results = tuple(results)
        """The results of all models, in order."""
        self.code = min(result.code for result in wrong)
        """The exit code of the worst result."""


@dataclass(frozen=True)
class _Model:
    """A model of the watched folder."""

    folder: WatchedFolder
    """The folder, as the scan found it."""
    name: str
    """The model's name in the folder."""
    versions: ModelVersions
    """What has been published of it."""


def scan(
    watched: WatchedFolder, names: Sequence[str], output: Store, run: Run, settle_seconds: float
) -> Iterator[ScanResult]:
    """Yield the result of each model, those that need no run first. A failure with one model stops no other.

    A model that needs a run must stay unchanged for `settle_seconds`; otherwise it is left to the next scan.
    """
    began, to_run = time.monotonic(), list[tuple[_Model, Job]]()
    for name in names:
        model = _Model(watched, name, ModelVersions(output / name.removesuffix(".onnx")))
        found = _finished_or_job(model)
        if isinstance(found, Job):
            to_run.append((model, found))
        else:
            yield _announced(model, found)
    if to_run:
        time.sleep(max(settle_seconds - (time.monotonic() - began), 0.0))
        later = WatchedFolder.at(watched.place.url)
        results = staggered([_call(model, job, later, run) for model, job in to_run])
        yield from (_announced(model, found) for (model, _), found in zip(to_run, results, strict=True))


def _finished_or_job(model: _Model) -> ScanResult | Job:
    """Return the job of a model that has to be run, or the result of one that is finished or cannot be run."""
    try:
        model.versions.clear_leftovers()
        job = model.folder.job(model.name)
        manifest = model.versions.finished(job.version)
        if manifest is None:
            return job
        model.versions.point_to(job.version, manifest)
        place = str(model.versions.output(job.version))
        return ScanResult(model.name, "done", f"as before: {verdict(manifest)}", place)
    except Exception as error:
        return _failure(model, error)


def _call(model: _Model, job: Job, later: WatchedFolder, run: Run) -> Call[ScanResult]:
    """Return the call of a run, which may overlap others if its model is a small file."""
    size = later.files.get(model.name, {}).get("size")
    small = isinstance(size, int) and size <= _LARGEST_BESIDE and not job.model.beside
    return Call(partial(_result_of_run, model, job, later, run), small)


def _result_of_run(model: _Model, job: Job, later: WatchedFolder, run: Run) -> ScanResult:
    """Run a job whose model has not changed until `later`, publish the version, and return the result."""
    try:
        if later.stamp(model.name) != model.folder.stamp(model.name):
            raise IncompleteError(f"{model.folder.place / model.name}: is still being written")
        watcher().noted(f"{model.name}: begins, for {job.config.target}")
        model.versions.make_room(job.version)
        place = model.versions.output(job.version)
        with watched_by(_Named(watcher(), model.name)):
            manifest = _manifest_of_run(model.name, job, place, run)
        model.versions.point_to(job.version, manifest)
        ending: Literal["met", "missed"] = "met" if manifest.target.met else "missed"
        tell(ending, job.model.url, place.url, **facts_of(manifest))
        return ScanResult(model.name, ending, verdict(manifest), str(place), 0 if ending == "met" else 3)
    except Exception as error:
        return _failure(model, error)


class _Named(Relay):
    """Says which model a note or a warning is of: more than one may be at work."""

    def __init__(self, listener: Watcher, name: str) -> None:
        super().__init__(listener)
        self._name = name

    def noted(self, message: str) -> None:
        """Pass it on with the model's name."""
        super().noted(f"{self._name}: {message}")

    def warned(self, message: str) -> None:
        """Pass it on with the model's name."""
        super().warned(f"{self._name}: {message}")


def _manifest_of_run(name: str, job: Job, place: Store, run: Run) -> Manifest:
    """Run a job; return the manifest, also when the target is missed."""
    try:
        return run(name, job, place.url)
    except TargetError as missed:
        if not isinstance(missed.outcome, Outcome):
            raise
        return missed.outcome.manifest


def _failure(model: _Model, error: Exception) -> ScanResult:
    """Return the result that an exception stands for."""
    name, url = model.name, model.folder.place.url
    if isinstance(error, IncompleteError) and WatchedFolder.at(url).is_young(name, _UPLOAD_SECONDS):
        return ScanResult(name, "waiting", f"{error}; looked at again next time")
    if isinstance(error, NarrowcastError) and not isinstance(error, OutageError):
        return ScanResult(name, "failed", str(error), code=2)
    return ScanResult(name, "failed", f"{reason_of(error)}; finished steps are kept", code=1)


def _announced(model: _Model, result: ScanResult) -> ScanResult:
    """Log a result, emit the event of a failure, and return the result."""
    watcher().noted(str(result))
    if result.state == "failed":
        tell("failed", (model.folder.place / model.name).url, model.versions.place.url, reason=result.says)
    return result
