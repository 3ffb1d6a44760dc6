"""Runs the steps of a fan-out as flow runs of a deployment, on whatever machines have a worker of its work pool.

The machines share nothing but Prefect's API and the workspace: a run is told the keys of the tables it needs, and
its own result is found in the workspace by its key. So a run that is lost costs only its own work, and one that was
given up and lives on does no harm: it writes what the other would.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import cast
from uuid import UUID

import pyarrow as pa
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed

from quant_core.errors import InputError
from quant_core.storage.tables import from_ipc
from tasks.executors.executor import Step, StepResult, warn
from tasks.executors.heartbeat import pulse_of, seconds_between
from tasks.executors.plain_arguments import plain

__all__ = ["REFUSED", "PoolExecutor"]

REFUSED = "Refused"
"""Name of the state of a run that would fail again: its message is for the user."""

_LIVES = 4
"""How often a step is begun at most."""
_LOOK_SECONDS = 1.0
_MISSED_PULSES = 6
_UNSTARTED_SECONDS = 60.0
_SILENT_SECONDS = 120.0
"""How long nothing may be heard of a run without a pulse."""
_SILENT_CONTAINER_SECONDS = 600.0
"""How long a worker may take to start a run that is no process of its own: a container's image may take minutes."""
_PAGE = 200
_OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


@dataclass
class _Sent:
    """A step and the flow run that is to do it."""

    step: Step
    """The step."""
    run: FlowRun
    """The run as it was last seen."""
    starting: float
    """Seconds a worker may take to start it."""
    lives: int = 1
    """How many runs the step has had."""
    silence: float = field(default=0.0)
    """Seconds of looking in which nothing new was seen of the run."""

    def see(self, run: FlowRun, seconds: float) -> None:
        """Note what a look has found, so many seconds after the one before."""
        # A look that came late is not the run's silence: then it was the API that was away.
        self.silence = self.silence + min(seconds, 2 * _LOOK_SECONDS) if _news(run) == _news(self.run) else 0.0
        self.run = run

    @property
    def is_unstarted(self) -> bool:
        """Whether no worker has taken the run."""
        return self.run.state is not None and self.run.state.is_scheduled()

    @property
    def is_lost(self) -> bool:
        """Whether too little has been heard of the run. One that waits for a worker may wait."""
        state, pulse = self.run.state, seconds_between(self.run.labels)
        if state is None or not (state.is_pending() or state.is_running()):
            return False
        running = _MISSED_PULSES * pulse if pulse else _SILENT_SECONDS
        return self.silence > (self.starting if state.is_pending() else running)


def _news(run: FlowRun) -> tuple[UUID | None, int | None]:
    return (run.state.id if run.state else None, pulse_of(run.labels))


class PoolExecutor:
    """Runs steps as flow runs of a deployment."""

    is_elsewhere = True
    """Its workers may have none of our files."""

    def __init__(self, deployment: str) -> None:
        self._name = deployment

    def run(self, steps: Sequence[Step]) -> list[StepResult]:
        """What came of the steps, in their order.

        A run that crashes, is cancelled or is not heard of any more is replaced, a few times. Raises InputError for
        what a run refused, and RuntimeError when one fails, or is lost too often.
        """
        if not steps:
            return []
        with get_client(sync_client=True) as client:
            pool = _Pool(client, self._name)
            sent = pool.send_all(steps)
            with pool.cancelled_on_error(sent):
                tables = pool.wait_for(sent)
        return [StepResult(tables[str(step.parameters["key"])], cached=False) for step in steps]

    def close(self) -> None:
        """Nothing is held between calls."""


class _Pool:
    """A deployment, by the API."""

    def __init__(self, client: SyncPrefectClient, name: str) -> None:
        self._client, self._name = client, name
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound as error:
            server = PREFECT_API_URL.value() or "this run's own server"
            raise InputError(
                f"runner pool: {server} has no deployment {name}; deploy it there (see deployments/README.md) "
                "and set PREFECT_API_URL"
            ) from error
        self._id = deployment.id
        pool = deployment.work_pool_name and client.read_work_pool(deployment.work_pool_name)
        self._starting = _SILENT_SECONDS if pool and pool.type == "process" else _SILENT_CONTAINER_SECONDS

    def send_all(self, steps: Sequence[Step]) -> list[_Sent]:
        """A run for each step: one that is under way, from a run of ours that was stopped, or a new one."""
        under_way = {(run.parameters.get("key"), run.parameters.get("workspace")): run for run in self._open_runs()}
        sent = []
        for step in steps:
            run = under_way.get((step.parameters["key"], step.parameters["workspace"].url))
            sent.append(_Sent(step, run or self._send(step), self._starting))
        return sent

    def _open_runs(self) -> Iterator[FlowRun]:
        of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[self._id]))
        still_open = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_OPEN)))
        for offset in count(0, _PAGE):
            page = self._client.read_flow_runs(
                deployment_filter=of_deployment, flow_run_filter=still_open, limit=_PAGE, offset=offset
            )
            yield from page
            if len(page) < _PAGE:
                return

    def _send(self, step: Step) -> FlowRun:
        given = step.parameters
        parameters = {
            "key": given["key"],
            "arguments": plain(given["arguments"]),
            "workspace": given["workspace"].url,
            "stage": step.task.name,
        }
        sent = run_deployment(self._name, parameters=parameters, flow_run_name=given["label"], timeout=0)
        return cast("FlowRun", sent)  # not a coroutine: this is no asynchronous flow

    def wait_for(self, sent: Sequence[_Sent]) -> dict[str, pa.Table]:
        """Results of the steps by key."""
        tables: dict[str, pa.Table] = {}
        waiting, looked, told = list(sent), time.monotonic(), False
        taken = looked
        while waiting:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            self._look(waiting, now - looked)
            looked = now
            if not all(one.is_unstarted for one in waiting):
                taken = now
            if not told and now - taken > _UNSTARTED_SECONDS:
                warn(f"no worker has taken a run of {self._name} yet: is one with a free slot there?")
                told = True
            for one in waiting:
                table = self._settled(one)
                if table is not None:
                    tables[str(one.step.parameters["key"])] = table
            waiting = [one for one in waiting if one.step.parameters["key"] not in tables]
        return tables

    def _look(self, waiting: Sequence[_Sent], seconds: float) -> None:
        runs: dict[UUID, FlowRun] = {}
        for first in range(0, len(waiting), _PAGE):
            ids = [one.run.id for one in waiting[first : first + _PAGE]]
            asked = FlowRunFilter(id=FlowRunFilterId(any_=ids))
            runs |= {run.id: run for run in self._client.read_flow_runs(flow_run_filter=asked, limit=_PAGE)}
        for one in waiting:
            if one.run.id in runs:
                one.see(runs[one.run.id], seconds)
            else:  # deleted
                self._replace(one, "is gone")

    def _settled(self, one: _Sent) -> pa.Table | None:
        """The result of a step, if its run is over; a run that came to nothing is replaced."""
        state = one.run.state
        if state is not None and state.is_completed():
            found = one.step.parameters["workspace"].results.find(one.step.parameters["key"])
            if found.payload is not None:
                return from_ipc(found.payload)
            self._replace(one, "has left no result")
        elif state is not None and state.is_failed():
            raise (InputError if state.name == REFUSED else RuntimeError)(f"{one.run.name}: {state.message}")
        elif state is not None and state.is_final():
            self._replace(one, f"has {state.name.lower() if state.name else 'ended'}")
        elif one.is_lost:
            message = f"nothing was heard of it for {one.silence:.0f} s"
            self._client.set_flow_run_state(one.run.id, Crashed(message=message), force=True)
            self._replace(one, "is not heard of any more")
        return None

    def _replace(self, one: _Sent, why: str) -> None:
        if one.lives == _LIVES:
            raise RuntimeError(f"{one.run.name}: {_LIVES} runs came to nothing; the last one {why}")
        warn(f"the run of {one.run.name} {why}; the step is submitted again")
        one.run, one.lives, one.silence = self._send(one.step), one.lives + 1, 0.0

    @contextmanager
    def cancelled_on_error(self, sent: Sequence[_Sent]) -> Iterator[None]:
        """Cancel what is still open when the block fails or is stopped: nobody waits for it any more."""
        try:
            yield
        except BaseException:
            for one in sent:
                if one.run.state is None or not one.run.state.is_final():
                    with suppress(Exception):
                        self._client.set_flow_run_state(one.run.id, Cancelled(message="the run that wanted it ended"))
            raise
