"""How the pipeline calls its stages: here one after the other in this process, with nothing kept between runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher

__all__ = ["Arguments", "Runner", "Stage", "StageFunction"]

StageFunction = Callable[..., pa.Table]
"""Takes keyword arguments (references, tables, settings) and a Machine; returns a table."""

Arguments = Mapping[str, Any]
"""Arguments of a stage by name, without the machine."""


def _no_detail(arguments: Arguments) -> str:
    return ""


@dataclass(frozen=True)
class Stage:
    """One kind of step: a function whose result is a table that can be stored and found again."""

    name: str
    """The name in keys, in Prefect's UI, in progress and in the manifest."""
    function: StageFunction
    """The function."""
    schema: pa.Schema | None
    """The schema of its result; None where the columns depend on the model."""
    sharded_by: tuple[str, ...] = ()
    """Arguments that differ between the calls of a fan-out; empty for a stage that is called once."""
    detail: Callable[[Arguments], str] = _no_detail
    """Says what a call works on, for the name of its task run."""
    retries: int = 3
    """How often a call that failed on input or output is tried again."""
    has_file: Callable[[pa.Table, Path], bool] | None = None
    """Tells whether the model file that a result names is in a cache folder; None for a result without a file."""

    def __call__(self, arguments: Arguments, machine: Machine) -> pa.Table:
        """Compute the result; raises RuntimeError where it is not of the declared schema."""
        table = self.function(**arguments, machine=machine)
        if self.schema is not None and not table.schema.equals(self.schema, check_metadata=False):
            raise RuntimeError(f"stage {self.name}: expected {self.schema}, got {table.schema}")
        return table


class Runner:
    """Calls stages and keeps account of the work. Subclasses decide where they run and what is remembered."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.seconds: dict[str, float] = {}
        """Wall time by step of the pipeline."""
        self.computed = 0
        """Calls that were computed."""
        self.cached = 0
        """Calls whose result was there from an earlier run."""

    def run(self, stage: Stage, /, step: str = "", title: str = "", **arguments: Any) -> pa.Table:
        """Call a stage once; see `fan_out`."""
        return self.fan_out(stage, [arguments], step=step, title=title)[0]

    def fan_out(
        self, stage: Stage, each: Sequence[Arguments], /, step: str = "", title: str = "", **common: Any
    ) -> list[pa.Table]:
        """Call a stage once for each set of arguments, as many at a time as there are workers; results in order.

        `step` is the step of the pipeline that asks for it, and `title` the name of the calls where they are listed;
        by default both are the stage's name. `common` are arguments of all calls.
        """
        calls = [{**common, **arguments} for arguments in each]
        with self._accounted(step or stage.name):
            self.computed += len(calls)
            return list(ordered_map(partial(stage, machine=self._share(calls)), calls, self.machine.workers))

    def finish(self) -> None:
        """Let go of what calls stages: the run calls none any more."""

    @contextmanager
    def _accounted(self, step: str) -> Iterator[None]:
        began, before = time.perf_counter(), self.computed
        watcher().started(step)
        yield
        pa.default_memory_pool().release_unused()  # the memory of tables that are gone: a run goes on for long
        took = time.perf_counter() - began + self._seconds_ahead()
        self.seconds[step] = self.seconds.get(step, 0.0) + took
        watcher().finished(step, took, cached=self.computed == before)

    def _seconds_ahead(self) -> float:
        """Return the seconds of a step's computing that lie before it was called."""
        return 0.0

    def _share(self, calls: Sequence[Arguments]) -> Machine:
        """Return what each of the calls may use: one alone has all the workers, several have one each."""
        return self.machine if len(calls) == 1 else Machine(self.machine.cache, workers=1)
