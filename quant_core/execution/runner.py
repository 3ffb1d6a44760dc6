"""How the pipeline calls its stages: here one after the other in this process, nothing kept between runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher

__all__ = ["StageFunction", "Stages"]

StageFunction = Callable[..., pa.Table]
"""A stage: keyword arguments (references, tables, settings) and a Machine to a table."""

Call = tuple[StageFunction, Mapping[str, Any]]
"""A stage and its arguments, all but the machine."""


class Stages:
    """Calls stages and keeps account of the work. Subclasses decide where they run and what is remembered."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.seconds: dict[str, float] = {}
        """Wall time by stage name."""
        self.computed = 0
        """Steps that were computed."""
        self.cached = 0
        """Steps whose result was there from an earlier run."""

    def run(
        self, name: str, function: StageFunction, /, valid: Callable[[pa.Table], bool] | None = None, **arguments: Any
    ) -> pa.Table:
        """Run one stage. `valid` tells whether a remembered result's files are still there."""
        with self._accounted(name):
            return self._call([(function, arguments)], valid)[0]

    def fan_out(
        self, name: str, function: StageFunction, /, each: Sequence[Mapping[str, Any]], **common: Any
    ) -> list[pa.Table]:
        """Run a stage once for each set of arguments, as many at a time as there are workers."""
        with self._accounted(name):
            return self._call([(function, {**common, **arguments}) for arguments in each])

    @contextmanager
    def _accounted(self, name: str) -> Iterator[None]:
        began, before = time.perf_counter(), self.computed
        watcher().started(name)
        yield
        pa.default_memory_pool().release_unused()  # what tables that are gone had: the run goes on for long
        took = time.perf_counter() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        watcher().finished(name, took, cached=self.computed == before)

    def _call(self, calls: Sequence[Call], valid: Callable[[pa.Table], bool] | None = None) -> list[pa.Table]:
        """Results in the order of the calls."""
        machine = self._share(calls)
        self.computed += len(calls)
        return list(ordered_map(lambda call: partial(call[0], **call[1])(machine=machine), calls, self.machine.workers))

    def _share(self, calls: Sequence[Call]) -> Machine:
        """What each of the calls may use: one alone has all the workers, several have one each."""
        return self.machine if len(calls) == 1 else Machine(self.machine.cache, workers=1)
