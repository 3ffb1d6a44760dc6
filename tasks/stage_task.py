"""How a stage of the engine becomes a Prefect task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from prefect import Task, task

from quant_core.machine import Machine
from quant_core.stages import StageFunction
from tasks.arrow import ArrowSerializer
from tasks.step_key import GivenKey, keyed

__all__ = ["StageTask", "stage_task"]

StageTask = Task[..., pa.Table]
"""A task that calls one stage with its arguments and a Machine, and stores the table under a key."""


def stage_task(name: str, stage: StageFunction) -> StageTask:
    """Make the task of a stage, described by the stage's own docstring."""

    def run_stage(key: str, label: str, arguments: dict[str, Any], machine: Machine) -> pa.Table:
        return keyed(stage(**arguments, machine=machine), key)

    # No tags: for each run of a tagged task Prefect asks the server for a slot, and may wait seconds for the answer.
    decorate: Callable[[Callable[..., pa.Table]], StageTask] = task(
        name=name,
        description=(stage.__doc__ or "").strip(),
        task_run_name="{label}",
        cache_policy=GivenKey(),
        result_serializer=ArrowSerializer(),
        persist_result=True,
        cache_result_in_memory=False,
    )
    return decorate(run_stage)
