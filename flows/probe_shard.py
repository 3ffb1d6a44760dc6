"""One shard of the probes, or of a plan's evaluation, as a flow run of its own on any machine with a worker."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from quant_core.errors import InputError, NarrowcastError
from quant_core.pipeline.stages import STAGES
from tasks.cache.keys import step_key
from tasks.cache.workspace import Workspace
from tasks.executors.heartbeat import pulsing
from tasks.executors.plain_arguments import restored
from tasks.executors.pool import REFUSED
from tasks.prefect_runner import PrefectRunner

__all__ = ["probe_shard"]


Shard = Literal["probe", "evaluate"]
"""What is done side by side."""


@flow(name="probe-shard", persist_result=False)
def probe_shard(
    key: str, arguments: dict[str, Any], workspace: str, pulse_seconds: float = 10.0, stage: Shard = "probe"
) -> State[None]:
    """Probe some layers, or score a plan on some samples, and store the result for the run that has asked for it.

    What cannot be done, and could not be done a second time, ends in a state named Refused.

    Args:
        key: what the result is stored under; a worker with another version of the engine comes to another.
        arguments: those of the stage, `layer_sensitivity` or `evaluate_plan` of the engine; tables by the keys they
            are stored under.
        workspace: folder or URL of the workspace.
        pulse_seconds: how often this run shows that it is alive; after six times that it is taken for lost.
        stage: what is to be done.

    """
    with pulsing(flow_run.id, pulse_seconds):
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
