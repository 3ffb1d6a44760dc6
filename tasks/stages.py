"""Every stage of the pipeline as a Prefect task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from prefect import Task, task
from prefect.tasks import exponential_backoff

from quant_core.execution.runner import Stage
from quant_core.execution.slots import slots_from
from quant_core.pipeline.stages import STAGES
from tasks.cache.arrow import ArrowSerializer
from tasks.cache.keys import GivenKey, with_key
from tasks.cache.workspace import Workspace
from tasks.concurrency import slot_of_prefect
from tasks.head_start import begun_result
from tasks.retries import is_worth_another_try

__all__ = ["TASKS", "StageTask", "stage_task"]

StageTask = Task[..., pa.Table]
"""A task that calls one stage with its arguments and a number of threads, and stores the table under a key.

It needs no file of the machine that submits it: models and data come from the workspace, and results go there.
"""


def stage_task(stage: Stage) -> StageTask:
    """Make the task of a stage, described by the docstring of the stage's function."""

    def run_stage(key: str, label: str, arguments: dict[str, Any], workspace: Workspace, workers: int) -> pa.Table:
        here = workspace.files.localize(arguments)
        with slots_from(slot_of_prefect):
            begun = begun_result(key)
            table = begun if begun is not None else with_key(stage(here, workspace.machine(workers)), key)
        # Files before the result that names them, and the result before Prefect hears that the step is done.
        workspace.files.share(table)
        workspace.results.put(key, table)
        return table

    # No tags: for each run of a tagged task Prefect asks the server for a slot, and may wait seconds for the answer.
    decorate: Callable[[Callable[..., pa.Table]], StageTask] = task(
        name=stage.name,
        description=(stage.function.__doc__ or "").strip(),
        task_run_name="{label}",
        cache_policy=GivenKey(),
        result_serializer=ArrowSerializer(),
        persist_result=True,
        cache_result_in_memory=False,
        retries=stage.retries,
        retry_delay_seconds=exponential_backoff(1),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_worth_another_try,
    )
    return decorate(run_stage)


TASKS: Mapping[str, StageTask] = {name: stage_task(stage) for name, stage in STAGES.items()}
"""The tasks by the name of the stage."""
