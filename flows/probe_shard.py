"""One shard of the probes, as a flow run of its own on any machine with a worker."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from quant_core.errors import InputError, NarrowcastError
from quant_core.probing.probe import layer_sensitivity
from tasks.plain_arguments import restored
from tasks.pool import REFUSED
from tasks.prefect_stages import PrefectStages
from tasks.pulse import pulsing
from tasks.step_key import step_key
from tasks.workspace import Workspace

__all__ = ["probe_shard"]


@flow(name="probe-shard", persist_result=False)
def probe_shard(key: str, arguments: dict[str, Any], workspace: str, pulse_seconds: float = 10.0) -> State[None]:
    """Probe some layers and store their losses in the workspace, for the run that has asked for them.

    What cannot be done, and could not be done a second time, ends in a state named Refused.

    Args:
        key: what the result is stored under; a worker with another version of the engine comes to another.
        arguments: those of the engine's `layer_sensitivity`, tables by the keys they are stored under.
        workspace: folder or URL of the workspace.
        pulse_seconds: how often this run shows that it is alive; after six times that it is taken for lost.

    """
    with pulsing(flow_run.id, pulse_seconds):
        try:
            _probe(key, arguments, Workspace.at(workspace))
        except NarrowcastError as error:
            return Failed(name=REFUSED, message=str(error))
    return Completed()


def _probe(key: str, arguments: dict[str, Any], place: Workspace) -> None:
    place.check()
    given = restored(layer_sensitivity, arguments, place.results)
    if step_key("probe", given) != key:
        raise InputError("this worker has another version of narrowcast or ONNX Runtime; install the same on all")
    with PrefectStages(place, workers=1) as stages:
        stages.run("probe", layer_sensitivity, **given)
