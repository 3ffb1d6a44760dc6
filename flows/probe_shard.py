"""A flow that computes one shard of a stage, on any machine with a worker."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from quant_core.errors import InputError, NarrowcastError
from quant_core.pipeline.stages import STAGES
from tasks.cache.keys import step_key
from tasks.cache.workspace import Workspace
from tasks.executors.plain_arguments import restored
from tasks.executors.pool import REFUSED
from tasks.prefect_runner import PrefectRunner

__all__ = ["probe_shard"]


Shard = Literal["probe", "evaluate"]
"""The stages whose shards run on a pool."""


@flow(name="probe-shard", persist_result=False)
def probe_shard(key: str, arguments: dict[str, Any], workspace: str, stage: Shard = "probe") -> State[None]:
    """Probe some layers, or score a plan on some samples, and store the result for the run that has asked for it.

    What would fail again ends in a state named Refused.

    Args:
        key: what the result is stored under; a worker with another version of the engine computes another key.
        arguments: those of the stage, `layer_sensitivity` or `evaluate_plan` of the engine; tables by the keys they
            are stored under.
        workspace: folder or URL of the workspace.
        stage: the stage to compute.

    """
    try:
        _run(stage, key, arguments, Workspace.at(workspace))
    except NarrowcastError as error:
        return Failed(name=REFUSED, message=str(error))
    return Completed()


def _run(stage: Shard, key: str, arguments: dict[str, Any], place: Workspace) -> None:
    place.check()
    given = restored(STAGES[stage].function, arguments, place.results)
    if step_key(STAGES[stage], given) != key:
        raise InputError("this worker has another version of narrowcast or ONNX Runtime; install the same on all")
    with PrefectRunner(place, workers=1) as on:
        on.run(STAGES[stage], **given)
