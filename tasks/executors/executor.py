"""Where the calls of a fan-out run: on threads or processes here, on a Dask or Ray cluster, or on a work pool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from quant_core.errors import InputError
from quant_core.execution.progress import watcher
from tasks.executors.choice import ExecutorChoice, ExecutorKind
from tasks.executors.processes import Processes
from tasks.stages import StageTask

__all__ = ["Executor", "Step", "StepResult", "TaskExecutor", "executor_of", "warn"]

_LIVES = 3
"""How often a step is begun at most when what runs it dies."""


@dataclass(frozen=True)
class Step:
    """A stage's task, set up for the store, and its parameters."""

    task: StageTask
    """The task."""
    parameters: Mapping[str, Any]
    """Its parameters."""
    stored: bool
    """Whether its result is in the store."""


@dataclass(frozen=True)
class StepResult:
    """What came of a step."""

    table: pa.Table
    """The result."""
    cached: bool
    """Whether it was there from an earlier run."""


class Executor(Protocol):
    """Runs steps that do not depend on each other."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether steps may run on machines that have none of our files."""

    def run(self, steps: Sequence[Step]) -> list[StepResult]:
        """Return what came of them, in their order."""

    def close(self) -> None:
        """Let go of threads, processes and connections."""


def executor_of(choice: ExecutorChoice, workers: int) -> Executor:
    """Return what runs at most `workers` steps at once, unless the choice is a cluster of its own size.

    Raises InputError when a package that it needs is not installed.
    """
    if choice.kind == "pool":
        from tasks.executors.pool import PoolExecutor

        return PoolExecutor(choice.deployment)
    makers: Mapping[ExecutorKind, Callable[[], Callable[[], TaskRunner[Any]]]] = {
        "thread": lambda: lambda: ThreadPoolTaskRunner(max_workers=workers),
        "process": lambda: lambda: Processes(max_workers=workers),
        "dask": lambda: _dask(choice.address, workers),
        "ray": lambda: _ray(choice.address, workers),
    }
    return TaskExecutor(makers[choice.kind](), choice.is_elsewhere)


def _dask(address: str | None, workers: int) -> Callable[[], TaskRunner[Any]]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise _not_installed("dask") from error
    logging.getLogger("distributed").setLevel(logging.WARNING)
    own = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    return lambda: DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=own)


def _ray(address: str | None, workers: int) -> Callable[[], TaskRunner[Any]]:
    try:
        from prefect_ray.task_runners import RayTaskRunner
    except ImportError as error:
        raise _not_installed("ray") from error
    own = {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False, "logging_level": logging.WARNING}
    return lambda: RayTaskRunner(address=address) if address else RayTaskRunner(init_kwargs=own)


def _not_installed(extra: str) -> InputError:
    return InputError(f"runner {extra}: prefect-{extra} is not installed; pip install 'narrowcast[{extra}]'")


class TaskExecutor:
    """Runs steps by one of Prefect's task runners, which is started when it is first needed."""

    def __init__(self, make: Callable[[], TaskRunner[Any]], is_elsewhere: bool = False) -> None:
        self._make = make
        self._runner: TaskRunner[Any] | None = None
        self.is_elsewhere = is_elsewhere
        """Whether steps may run on machines that have none of our files."""

    def run(self, steps: Sequence[Step]) -> list[StepResult]:
        """Return what came of the steps, in their order; steps that a process took with it when it died run again."""
        for lives in reversed(range(_LIVES if steps else 0)):
            try:
                futures = [self._started().submit(step.task, dict(step.parameters)) for step in steps]
                tables = [future.result() for future in futures]
                cached = [future.state.name == "Cached" for future in futures]
                return [StepResult(table, found) for table, found in zip(tables, cached, strict=True)]
            except BrokenProcessPool:
                if not lives:
                    raise
                warn("a worker process died; what it had not finished is run again")
                self.close()
        return []

    def _started(self) -> TaskRunner[Any]:
        if self._runner is None:
            self._runner = self._make().__enter__()
        return self._runner

    def close(self) -> None:
        """End the runner, if it was started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.__exit__(None, None, None)


def warn(message: str) -> None:
    """Report it; a flow writes what is reported to the run's log."""
    watcher().warned(message)
