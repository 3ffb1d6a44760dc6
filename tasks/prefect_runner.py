"""Calls the pipeline's stages as Prefect tasks, with results stored under their keys."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from typing import Any, Self

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.execution.runner import Arguments, Runner, Stage
from tasks.cache.keys import GivenKey, step_key
from tasks.cache.stored_result import StoredResult
from tasks.cache.workspace import Workspace
from tasks.executors.choice import THREADS
from tasks.executors.executor import Executor, Step, StepResult, executor_of, warn
from tasks.head_start import seconds_ahead
from tasks.retries import smaller_batches
from tasks.run_name import run_name
from tasks.stages import TASKS
from tasks.turns import ALONE, current_turn

__all__ = ["PrefectRunner"]


class PrefectRunner(Runner):
    """Calls stages as tasks of the flow that is running. What was computed before is taken from the workspace.

    Use it in a `with` block, whose end lets go of what ran the calls of fan-outs.
    """

    def __init__(self, workspace: Workspace, workers: int, executor: Executor | None = None) -> None:
        super().__init__(workspace.machine(workers))
        self._workspace = workspace
        self._turn = current_turn()
        self._here = executor_of(THREADS, 1)
        self._executor = executor or executor_of(THREADS, workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Close the executors, and give the turn to compute to the next run in this process."""
        self._here.close()
        self._executor.close()
        self._turn.give_back()

    def fan_out(
        self, stage: Stage, each: Sequence[Arguments], /, step: str = "", title: str = "", **common: Any
    ) -> list[pa.Table]:
        """Call a stage once for each set of arguments; what is stored is read here, wherever the others run."""
        calls = [{**common, **arguments} for arguments in each]
        executor = self._here if len(calls) == 1 else self._executor
        self._turn.take(alone=stage in ALONE)
        with self._accounted(step or stage.name):
            if executor.is_elsewhere:
                self._workspace.files.share_inputs(calls)
            steps = self._steps(stage, calls, title, self._share(calls))
            try:
                stored = self._here.run([one for one in steps if one.stored])
                missing = executor.run([one for one in steps if not one.stored])
            except MemoryError:
                return self._with_file(stage, calls, title, self._frugally(stage, calls, title))
            first, second = iter(stored), iter(missing)
            results = [next(first if one.stored else second) for one in steps]
            return self._with_file(stage, calls, title, self._counted(results))

    def _seconds_ahead(self) -> float:
        return seconds_ahead()

    def _counted(self, results: Sequence[StepResult]) -> list[pa.Table]:
        """Return the tables of results, and keep account of them."""
        self.cached += sum(one.cached for one in results)
        self.computed += sum(not one.cached for one in results)
        return [one.table for one in results]

    def _frugally(self, stage: Stage, calls: Sequence[Arguments], title: str) -> list[pa.Table]:
        """Make calls that memory did not suffice for: one at a time, which changes no result, then smaller batches.

        A smaller batch may add up in another order. Its result is stored under a key of its own, and it is said.
        """
        warn(f"memory does not suffice for {stage.name}; from here on, one batch is computed at a time")
        self._executor.close()
        self._executor, self.machine = self._here, self._workspace.machine(1)
        with suppress(MemoryError):
            return self._counted(self._here.run(self._steps(stage, calls, title, self.machine)))
        for size in smaller_batches(calls[0]):
            less = f"batches of {size}, which may change the last bit of a number"
            warn(f"memory does not suffice for {stage.name}; {less}")
            with suppress(MemoryError):
                smaller = [{**given, "batch_size": size} for given in calls]
                return self._counted(self._here.run(self._steps(stage, smaller, title, self.machine)))
        raise MemoryError(f"out of memory in {stage.name}, even for one sample at a time")

    def _with_file(
        self, stage: Stage, calls: Sequence[Arguments], title: str, tables: list[pa.Table]
    ) -> list[pa.Table]:
        """Bring the model file that a result names to this machine; make it again where it is gone or damaged."""
        if stage.has_file is None:
            return tables
        self._workspace.files.bring(tables[0])
        if stage.has_file(tables[0], self.machine.cache):
            return tables
        warn(f"the file that {stage.name} made is gone or damaged; it is made again")
        return self._counted(self._here.run(self._steps(stage, calls, title, self.machine, refresh=True)))

    def _steps(
        self, stage: Stage, calls: Sequence[Arguments], title: str, machine: Machine, refresh: bool = False
    ) -> list[Step]:
        labels = [
            run_name(title or stage.name, stage.detail(arguments), number, len(calls))
            for number, arguments in enumerate(calls, start=1)
        ]
        return [
            self._step(stage, arguments, label, machine, refresh)
            for arguments, label in zip(calls, labels, strict=True)
        ]

    def _step(self, stage: Stage, arguments: Arguments, label: str, machine: Machine, refresh: bool) -> Step:
        """Set the task of a call up with what is stored of it; a damaged result is said."""
        key = step_key(stage, arguments)
        found = self._workspace.results.find(key)
        if found.flaw:
            warn(f"the stored result of {label} is damaged and computed again: {found.flaw}")
        stored = StoredResult(results=None if refresh else self._workspace.results.place.url)
        stored.payload = None if refresh else found.payload
        # Not by `with_options`: Prefect would want the storage saved in its database, where nobody looks for it, and
        # would read the source of the task's function once more.
        prepared = copy(TASKS[stage.name])
        prepared.cache_policy = GivenKey().configure(key_storage=stored)  # type: ignore[assignment]  # mypy sees None
        prepared.result_storage = stored
        parameters = {
            "key": key,
            "label": label,
            "arguments": arguments,
            "workspace": self._workspace,
            "workers": machine.workers,
        }
        return Step(prepared, parameters, stored=stored.payload is not None)
