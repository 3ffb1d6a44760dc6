"""Computes a run's first steps from the moment its input is found good until its flow begins.

A task that finds its step begun waits for the result in place of computing it; in all else it is the task of a step
that was computed. Whatever goes wrong with a head start is left to the tasks, which meet it themselves.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import Watcher, watched_by, watcher
from quant_core.execution.runner import Arguments, Runner, Stage
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import PREPARE
from quant_core.pipeline.steps import assign, baseline, calibrate, chosen, export, prepare, probe, rank, search, verify
from quant_core.storage.tables import from_ipc
from tasks.cache.keys import step_key, with_key
from tasks.cache.workspace import Workspace
from tasks.turns import ALONE

__all__ = ["HeadStart", "Prepared", "begun_result", "end_head_start", "head_start", "seconds_ahead"]

Prepared = tuple[pa.Table, float]
"""The layers of the prepared model (schema LAYERS), and the seconds that it took."""


@dataclass(frozen=True)
class _Computed:
    """A result, and when it was computed, by the clock of `time.perf_counter`."""

    table: pa.Table
    began: float
    ended: float


_Begun = Future[_Computed]


class HeadStart:
    """Results of steps that are begun before their tasks, by key."""

    def __init__(self) -> None:
        self._begun: dict[str, _Begun | None] = {}
        self._is_over = False
        self._seconds = 0.0
        self._lock = Lock()
        self.progress = _Progress()
        """Told how far the step is that is computed."""

    def begin(self, keys: Sequence[str]) -> list[_Begun]:
        """Return where the results of steps go; raises EndOfHeadStartError if the task of one of them was faster."""
        with self._lock:
            if self._is_over or any(key in self._begun for key in keys):
                raise EndOfHeadStartError
            self.progress.hold_back()
            begun = [_Begun() for _ in keys]
            self._begun.update(zip(keys, begun, strict=True))
            return begun

    def take(self, key: str) -> pa.Table | None:
        """Wait for the result of a step and return it, once; None where its task is to compute it."""
        with self._lock:
            begun = self._begun.get(key)
            self._begun[key] = None
        asked = time.perf_counter()
        with suppress(Exception):
            if begun is not None:
                if not begun.done():
                    self.progress.pass_to(watcher())
                computed = begun.result()
                self._seconds = max(self._seconds, min(computed.ended, asked) - computed.began)
                return computed.table
        return None

    def take_seconds(self) -> float:
        """Return for how long results had been computed that were taken since the last call, when they were taken."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def end(self) -> None:
        """Begin no further step."""
        with self._lock:
            self._is_over = True


class _Progress(Watcher):
    """Holds back how far a step is until its task waits for it; what else there is to say, the tasks say."""

    def __init__(self) -> None:
        self._listener: Watcher | None = None
        self._expected: Counter[str] = Counter()
        self._advanced: Counter[str] = Counter()
        self._lock = Lock()

    def hold_back(self) -> None:
        """Begin with another step."""
        with self._lock:
            self._listener = None
            self._expected.clear()
            self._advanced.clear()

    def pass_to(self, listener: Watcher) -> None:
        """Tell a watcher what was held back, and all that follows."""
        with self._lock:
            if self._listener is None:
                self._listener = listener
                for stage, units in self._expected.items():
                    listener.expects(stage, units)
                for stage, units in self._advanced.items():
                    listener.advanced(stage, units)

    def expects(self, stage: str, units: int) -> None:
        """Count it, or pass it on."""
        with self._lock:
            self._expected[stage] += units
            if self._listener is not None:
                self._listener.expects(stage, units)

    def advanced(self, stage: str, units: int) -> None:
        """Count it, or pass it on."""
        with self._lock:
            self._advanced[stage] += units
            if self._listener is not None:
                self._listener.advanced(stage, units)


class EndOfHeadStartError(Exception):
    """The tasks have caught up, or the next step is for its task only."""


_current: ContextVar[HeadStart | None] = ContextVar("head start", default=None)


def begun_result(key: str) -> pa.Table | None:
    """Return the result of a step that this process has begun ahead of its task; None where it has not."""
    current = _current.get()
    return None if current is None else current.take(key)


def seconds_ahead() -> float:
    """Return the seconds of computing that lie before the tasks that took the results, since the last call."""
    current = _current.get()
    return 0.0 if current is None else current.take_seconds()


def end_head_start() -> None:
    """Begin no further step ahead of its task: the flow is there."""
    current = _current.get()
    if current is not None:
        current.end()


@contextmanager
def head_start(
    job: QuantizationJob[Any], workspace: Workspace, workers: int, prepared: Prepared | None = None
) -> Iterator[None]:
    """Compute the steps of a job until its flow ends the head start, and hand them to the tasks of the flow.

    The first one, which prepares the model, may have been computed before.
    """
    begun = HeadStart()
    Thread(target=_compute, args=(job, _AheadOfTasks(begun, workspace, workers, prepared))).start()
    token = _current.set(begun)
    try:
        yield
    finally:
        _current.reset(token)
        begun.end()


def _compute(job: QuantizationJob[Any], on: _AheadOfTasks) -> None:
    """Go through the steps of a run, as its flow does, until there is no more to begin."""
    with suppress(Exception), watched_by(on.progress):
        layers = prepare(job, on)
        plan = None if job.assignment is None else assign(job, layers, on)
        study = baseline(job, layers, calibrate(job, layers, on), on, plan)
        decision = chosen(study, plan) if plan else search(study, rank(study, probe(study, on), on), on)
        verify(export(decision, on), on)


class _AheadOfTasks(Runner):
    """Computes the steps that are not stored yet, before their tasks ask for them."""

    def __init__(self, begun: HeadStart, workspace: Workspace, workers: int, prepared: Prepared | None) -> None:
        super().__init__(workspace.machine(workers))
        self._begun, self._workspace, self._prepared = begun, workspace, prepared
        self.progress = begun.progress

    def fan_out(
        self, stage: Stage, each: Sequence[Arguments], /, step: str = "", title: str = "", **common: Any
    ) -> list[pa.Table]:
        """Return the results; raises EndOfHeadStartError where a task is to compute one."""
        calls = [{**common, **arguments} for arguments in each]
        keys = [step_key(stage, arguments) for arguments in calls]
        found = {key: self._workspace.results.find(key).payload for key in keys}
        missing = {key: arguments for key, arguments in zip(keys, calls, strict=True) if found[key] is None}
        made = dict(zip(missing, self._made(stage, missing, self._share(calls)), strict=True))
        return [made[key] if payload is None else from_ipc(payload) for key, payload in found.items()]

    def _made(self, stage: Stage, calls: Mapping[str, Arguments], machine: Machine) -> list[pa.Table]:
        """Compute steps by key."""
        if calls and stage in ALONE:
            raise EndOfHeadStartError
        begun = dict(zip(calls, self._begun.begin(list(calls)), strict=True))

        def computed(key: str) -> pa.Table:
            found = self._computed(stage, calls[key], machine, key)
            begun[key].set_result(found)
            return found.table

        try:
            return list(ordered_map(computed, calls, self.machine.workers))
        finally:
            for one in begun.values():
                one.cancel()  # what is not there now never will be

    def _computed(self, stage: Stage, arguments: Arguments, machine: Machine, key: str) -> _Computed:
        """Compute a step, unless it is the one that was computed before."""
        began = time.perf_counter()
        if stage is PREPARE and self._prepared is not None:
            layers, seconds = self._prepared
            return _Computed(with_key(layers, key), began - seconds, began)
        return _Computed(with_key(stage(arguments, machine), key), began, time.perf_counter())
