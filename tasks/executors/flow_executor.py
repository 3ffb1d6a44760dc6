"""The executor of a flow run: the one its parameters name, or the task runner it was given by Prefect's own knob."""

from __future__ import annotations

from typing import Any, cast

from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import PrefectTaskRunner, TaskRunner, ThreadPoolTaskRunner

from quant_core.errors import InputError
from tasks.executors.choice import ExecutorChoice, ExecutorKind
from tasks.executors.executor import Executor, TaskExecutor, executor_of

__all__ = ["BY_PARAMETERS", "executor_of_flow", "refuse_task_runner"]


class ByParameters(ThreadPoolTaskRunner[Any]):
    """The task runner of a flow that was given none: its parameters `runner` and `workers` say what runs its tasks."""


BY_PARAMETERS = cast("TaskRunner[PrefectFuture[Any]]", ByParameters(max_workers=1))
"""The task runner that flows are declared with."""


class _GivenTaskRunner(TaskExecutor):
    """Runs steps by the flow's own task runner, which Prefect has started and ends."""

    def __init__(self, runner: TaskRunner[Any]) -> None:
        super().__init__(lambda: runner, is_elsewhere=not isinstance(runner, ThreadPoolTaskRunner))
        self._runner = runner

    def close(self) -> None:
        """Leave it to Prefect to end the runner."""


def executor_of_flow(kind: ExecutorKind | None, address: str | None, workers: int) -> Executor:
    """Return what runs the fan-outs of the flow that is running.

    That is the task runner of `flow.with_options(task_runner=...)` if there is one, else what `kind` and `address` say,
    by default threads. Raises InputError where both are given, and for a task runner that needs task workers.
    """
    given = _given_task_runner()
    if given is None:
        return executor_of(ExecutorChoice(kind or "thread", address), workers)
    if kind is not None or address is not None:
        raise InputError(f"runner: the flow was given the task runner {type(given).__name__}; give one of the two")
    if isinstance(given, PrefectTaskRunner):
        raise InputError("task_runner: PrefectTaskRunner needs task workers; use the parameter runner='pool' instead")
    return _GivenTaskRunner(given)


def refuse_task_runner() -> None:
    """Raise InputError where the flow that is running was given a task runner, for one that starts other flows."""
    given = _given_task_runner()
    if given is not None:
        raise InputError(f"task_runner: {type(given).__name__} is not a runner for this flow; set its parameter runner")


def _given_task_runner() -> TaskRunner[Any] | None:
    context = FlowRunContext.get()
    runner = context.task_runner if context else None
    return None if runner is None or isinstance(runner, ByParameters) else runner
