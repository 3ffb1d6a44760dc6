"""Runs the steps of a fan-out as flow runs of a deployment, on any machines that have a worker of its work pool.

The machines share only Prefect's API and the workspace: a run is given the keys of the tables it needs, and its result
is found in the workspace by its key. So a lost run costs only its own work, and a run that was replaced and goes on all
the same does no harm: it writes what the other one would.

That a run is lost is for Prefect to say: a worker marks a run whose process dies as crashed, and the server a run whose
heartbeats stop (deployments/automations.yaml).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled

from quant_core.errors import InputError
from quant_core.storage.tables import from_ipc
from tasks.executors.executor import Step, StepResult, warn
from tasks.executors.plain_arguments import plain

__all__ = ["AUTOMATIONS", "REFUSED", "PoolExecutor"]

REFUSED = "Refused"
"""Name of the state of a run that would fail again: its message is for the user."""

AUTOMATIONS = ("narrowcast run lost", "narrowcast run never begun")
"""Names of the server's automations that mark lost runs as crashed."""

_ATTEMPTS = 4
"""Runs that a step gets at most."""
_POLL_SECONDS = 1.0
_UNSTARTED_SECONDS = 60.0
_PAGE = 200
_OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


@dataclass
class _Submission:
    """A step and the flow run that is to do it."""

    step: Step
    """The step."""
    run: FlowRun
    """The run, as it was last read."""
    attempt: int = 1
    """The number of this run among those of the step."""

    @property
    def key(self) -> str:
        """The key of the step's result."""
        return str(self.step.parameters["key"])

    @property
    def is_unstarted(self) -> bool:
        """Whether no worker has taken the run."""
        return self.run.state is not None and self.run.state.is_scheduled()


def _ending(state: State) -> str:
    """Return how a run has ended, such as `has crashed (Process exited with status code: -9.)`."""
    reason = f" ({state.message})" if state.message else ""
    return f"has {(state.name or state.type.value).lower()}{reason}"


class PoolExecutor:
    """Runs steps as flow runs of a deployment."""

    is_elsewhere = True
    """Its workers may have none of our files."""

    def __init__(self, deployment: str) -> None:
        self._name = deployment
        self._checked = False

    def run(self, steps: Sequence[Step]) -> list[StepResult]:
        """Return the results of the steps, in their order.

        A run that crashes, is cancelled or leaves no result is replaced, a few times. Raises InputError for what a run
        refused, and RuntimeError when one fails, or when a step has used up its runs.
        """
        if not steps:
            return []
        with get_client(sync_client=True) as client:
            pool = _Pool(client, self._name)
            if not self._checked:
                pool.check_automations()
                self._checked = True
            submissions = pool.submit_all(steps)
            with pool.cancelled_on_error(submissions):
                tables = pool.wait_for(submissions)
        return [StepResult(tables[str(step.parameters["key"])], cached=False) for step in steps]

    def close(self) -> None:
        """Do nothing: nothing is held between calls."""


class _Pool:
    """A deployment, by the API."""

    def __init__(self, client: SyncPrefectClient, name: str) -> None:
        self._client, self._name = client, name
        self._server = PREFECT_API_URL.value() or "this run's own server"
        try:
            self._id = client.read_deployment_by_name(name).id
        except ObjectNotFound as error:
            raise InputError(
                f"runner pool: {self._server} has no deployment {name}; deploy it there (see deployments/README.md) "
                "and set PREFECT_API_URL"
            ) from error

    def check_automations(self) -> None:
        """Warn when the server does not mark lost runs as crashed."""
        for name in AUTOMATIONS:
            if not any(found.enabled for found in self._client.read_automations_by_name(name)):
                warn(
                    f"{self._server} has no automation {name!r}, so a shard whose machine is lost would be waited for "
                    "without end; deployments/setup.sh makes it"
                )

    def submit_all(self, steps: Sequence[Step]) -> list[_Submission]:
        """Return a run for each step: one that an earlier run of ours has left under way, or a new one."""
        under_way = {(run.parameters.get("key"), run.parameters.get("workspace")): run for run in self._open_runs()}
        submissions = []
        for step in steps:
            run = under_way.get((step.parameters["key"], step.parameters["workspace"].url))
            submissions.append(_Submission(step, run or self._submit(step)))
        return submissions

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

    def _submit(self, step: Step) -> FlowRun:
        given = step.parameters
        parameters = {
            "key": given["key"],
            "arguments": plain(given["arguments"]),
            "workspace": given["workspace"].url,
            "stage": step.task.name,
        }
        submitted = run_deployment(self._name, parameters=parameters, flow_run_name=given["label"], timeout=0)
        return cast("FlowRun", submitted)  # not a coroutine: this is no asynchronous flow

    def wait_for(self, submissions: Sequence[_Submission]) -> dict[str, pa.Table]:
        """Return the results of the steps by key."""
        tables: dict[str, pa.Table] = {}
        waiting, taken, warned = list(submissions), time.monotonic(), False
        while waiting:
            time.sleep(_POLL_SECONDS)
            self._refresh(waiting)
            if not all(one.is_unstarted for one in waiting):
                taken = time.monotonic()
            if not warned and time.monotonic() - taken > _UNSTARTED_SECONDS:
                warn(f"no worker has taken a run of {self._name} yet: is one with a free slot there?")
                warned = True
            for one in waiting:
                table = self._result(one)
                if table is not None:
                    tables[one.key] = table
            waiting = [one for one in waiting if one.key not in tables]
        return tables

    def _refresh(self, waiting: Sequence[_Submission]) -> None:
        """Read the runs again; replace those that were deleted."""
        runs: dict[UUID, FlowRun] = {}
        for first in range(0, len(waiting), _PAGE):
            ids = [one.run.id for one in waiting[first : first + _PAGE]]
            asked = FlowRunFilter(id=FlowRunFilterId(any_=ids))
            runs |= {run.id: run for run in self._client.read_flow_runs(flow_run_filter=asked, limit=_PAGE)}
        for one in waiting:
            if one.run.id in runs:
                one.run = runs[one.run.id]
            else:
                self._replace(one, "is gone")

    def _result(self, one: _Submission) -> pa.Table | None:
        """Return the result of a step if its run has ended; replace a run that ended without one."""
        state = one.run.state
        if state is None or not state.is_final():
            return None
        if state.is_failed():
            raise (InputError if state.name == REFUSED else RuntimeError)(f"{one.run.name}: {state.message}")
        # Also of a run that was marked as crashed: it may have been alive, and only its heartbeats lost.
        found = one.step.parameters["workspace"].results.find(one.key)
        if found.payload is not None:
            return from_ipc(found.payload)
        self._replace(one, "has left no result" if state.is_completed() else _ending(state))
        return None

    def _replace(self, one: _Submission, why: str) -> None:
        if one.attempt == _ATTEMPTS:
            raise RuntimeError(f"{one.run.name}: {_ATTEMPTS} runs came to nothing; the last one {why}")
        warn(f"the run of {one.run.name} {why}; the step is submitted again")
        one.run, one.attempt = self._submit(one.step), one.attempt + 1

    @contextmanager
    def cancelled_on_error(self, submissions: Sequence[_Submission]) -> Iterator[None]:
        """Cancel the runs that are still open when the block fails or is stopped: nobody waits for them any more."""
        try:
            yield
        except BaseException:
            for one in submissions:
                if one.run.state is None or not one.run.state.is_final():
                    with suppress(Exception):
                        self._client.set_flow_run_state(one.run.id, Cancelled(message="the run that wanted it ended"))
            raise
