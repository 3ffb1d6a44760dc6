"""What a run would have to do: it is followed along the results that are stored, up to the first that is not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import pyarrow as pa

from quant_core.assignments.assignment import Assignment
from quant_core.config import LayerWiseConfig, MixedPrecisionConfig, RunConfig
from quant_core.errors import TargetError
from quant_core.execution.runner import Call, Stages
from quant_core.pipeline.auto import run as run_auto
from quant_core.pipeline.forecast import Forecast, forecast
from quant_core.pipeline.layer_wise import run as run_layer_wise
from quant_core.pipeline.study import Request
from quant_core.results.output_place import OutputPlace
from quant_core.storage.tables import from_ipc
from tasks.cache.keys import step_key
from tasks.cache.workspace import Workspace
from tasks.prefect_runner import TASKS

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True)
class DryRun:
    """How much of a run is there, and what is left of it."""

    cached: dict[str, int]
    """Steps whose result is stored, by stage, up to the first stage that has some to do."""
    stage: str | None
    """The stage that the run would begin to compute in; None when nothing is left to do."""
    missing: int
    """Its steps that are not stored. What comes after it depends on their results."""
    ahead: tuple[Forecast, ...] = ()
    """That stage and those after it, with what they are expected to take."""

    @property
    def seconds(self) -> float:
        """What is expected of all stages that are left, but for those of which nothing is known."""
        return sum(stage.seconds or 0.0 for stage in self.ahead)


def dry_run(
    request: Request[RunConfig], workspace: Workspace, workers: int, assignment: Assignment | None = None
) -> DryRun:
    """Look how far a run could go without computing anything: no step is stored, and no result written.

    With an `assignment` it is a layer-wise run. Time is foretold from a pass of the float model over a few samples.
    Raises InputError for unusable input.
    """
    stages = _Followed(workspace)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _follow(replace(request, output=OutputPlace.at(scratch)), assignment, stages)
    except TargetError:
        pass  # which is an end as well: the wide model was measured, and is stored
    except _NotStoredError as found:
        stages_of_all = forecast(request, workspace.cache, workers, assignment)
        return DryRun(stages.found, found.stage, found.steps, _ahead(stages_of_all, stages.found, found.stage))
    return DryRun(stages.found, None, 0)


def _follow(request: Request[RunConfig], assignment: Assignment | None, stages: Stages) -> None:
    if assignment is None:
        run_auto(cast("Request[MixedPrecisionConfig]", request), stages)
    else:
        run_layer_wise(cast("Request[LayerWiseConfig]", request), assignment, stages)


def _ahead(stages: Sequence[Forecast], found: Collection[str], missing: str) -> tuple[Forecast, ...]:
    """Of all stages those that are left. Once a plan is chosen, none is probed or searched for."""
    left = [stage for stage in stages if stage.stage == missing or stage.stage not in found]
    chosen = missing in _LAST or "export" in found
    return tuple(stage for stage in left if not chosen or stage.stage in (missing, *_LAST))


_LAST = ("export", "verify", "timing")


@dataclass
class _NotStoredError(Exception):
    """The run gets no further without computing."""

    stage: str
    steps: int


@dataclass
class _Followed(Stages):
    """Takes results from the workspace, and stops where there is none."""

    workspace: Workspace
    found: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.workspace.machine(1))

    @contextmanager
    def _accounted(self, name: str) -> Iterator[None]:
        self._stage = name
        yield

    def _call(self, calls: Sequence[Call], valid: Callable[[pa.Table], bool] | None = None) -> list[pa.Table]:
        stored = [self._stored(call, valid) for call in calls]
        tables = [table for table in stored if table is not None]
        if tables:
            self.found[self._stage] = self.found.get(self._stage, 0) + len(tables)
        if len(tables) < len(calls):
            raise _NotStoredError(self._stage, len(calls) - len(tables))
        return tables

    def _stored(self, call: Call, valid: Callable[[pa.Table], bool] | None) -> pa.Table | None:
        """The result of a call, if it is there with the file that it names."""
        function, arguments = call
        payload = self.workspace.results.find(step_key(TASKS[function].name, arguments)).payload
        if payload is None:
            return None
        table = from_ipc(payload)
        if valid is not None:
            self.workspace.files.bring(table)
        return table if valid is None or valid(table) else None
