"""How a stage of the engine becomes a Prefect task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from prefect import Task, task
from prefect.tasks import exponential_backoff

from quant_core.execution.runner import StageFunction
from tasks.cache.arrow import ArrowSerializer
from tasks.cache.keys import GivenKey, keyed
from tasks.cache.workspace import Workspace
from tasks.retries import ATTEMPTS, is_worth_another_try

__all__ = ["StageTask", "stage_task"]

StageTask = Task[..., pa.Table]
"""A task that calls one stage with its arguments and a number of threads, and stores the table under a key.

It needs no file of the machine that submits it: models and data come from the workspace, and results go there.
"""


def stage_task(name: str, stage: StageFunction) -> StageTask:
    """Make the task of a stage, described by the stage's own docstring."""

    def run_stage(key: str, label: str, arguments: dict[str, Any], workspace: Workspace, workers: int) -> pa.Table:
        here = workspace.files.brought(arguments)
        table = keyed(stage(**here, machine=workspace.machine(workers)), key)
        # Files before the result that names them, and the result before Prefect hears that the step is done.
        workspace.files.share(table)
        workspace.results.put(key, table)
        return table

    # No tags: for each run of a tagged task Prefect asks the server for a slot, and may wait seconds for the answer.
    decorate: Callable[[Callable[..., pa.Table]], StageTask] = task(
        name=name,
        description=(stage.__doc__ or "").strip(),
        task_run_name="{label}",
        cache_policy=GivenKey(),
        result_serializer=ArrowSerializer(),
        persist_result=True,
        cache_result_in_memory=False,
        retries=ATTEMPTS - 1,
        retry_delay_seconds=exponential_backoff(1),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_worth_another_try,
    )
    return decorate(run_stage)
