"""What a run would have to do: it is followed along the results that are stored, up to the first that is not."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa

from quant_core.config import LayerWiseConfig, MixedPrecisionConfig, RunConfig
from quant_core.errors import TargetError
from quant_core.execution.runner import Arguments, Runner, Stage
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.forecast import Forecast, forecast
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.layer_wise import run_layer_wise
from quant_core.results.output_place import OutputPlace
from quant_core.storage.tables import from_ipc
from tasks.cache.keys import step_key
from tasks.cache.workspace import Workspace

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
        """Seconds that all stages that are left are expected to take, but for those of which nothing is known."""
        return sum(stage.seconds or 0.0 for stage in self.ahead)


def dry_run(job: QuantizationJob[RunConfig], workspace: Workspace, workers: int) -> DryRun:
    """Follow a run along the results that are stored: no step is stored, and no result written.

    Time is foretold from a pass of the float model over a few samples. Raises InputError for unusable input.
    """
    on = _StoredResults(workspace)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _follow(replace(job, output=OutputPlace.at(scratch)), on)
    except TargetError:
        pass  # which is an end as well: the wide model was measured, and is stored
    except _NotStoredError as found:
        stages_of_all = forecast(job, workspace.cache, workers)
        return DryRun(on.found, found.step, found.calls, _ahead(stages_of_all, on.found, found.step))
    return DryRun(on.found, None, 0)


def _follow(job: QuantizationJob[RunConfig], on: Runner) -> None:
    if job.assignment is None:
        run_auto(cast("QuantizationJob[MixedPrecisionConfig]", job), on)
    else:
        run_layer_wise(cast("QuantizationJob[LayerWiseConfig]", job), on)


def _ahead(stages: Sequence[Forecast], found: Collection[str], missing: str) -> tuple[Forecast, ...]:
    """Return the stages that are left. Once a plan is chosen, none is probed or searched for."""
    left = [stage for stage in stages if stage.stage == missing or stage.stage not in found]
    chosen = missing in _LAST or "export" in found
    return tuple(stage for stage in left if not chosen or stage.stage in (missing, *_LAST))


_LAST = ("export", "verify", "timing")


@dataclass
class _NotStoredError(Exception):
    """The run gets no further without computing."""

    step: str
    calls: int


@dataclass
class _StoredResults(Runner):
    """Takes results from the workspace, and stops where there is none."""

    workspace: Workspace
    found: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.workspace.machine(1))

    def fan_out(
        self, stage: Stage, each: Sequence[Arguments], /, step: str = "", title: str = "", **common: Any
    ) -> list[pa.Table]:
        step = step or stage.name
        stored = [self._stored(stage, {**common, **arguments}) for arguments in each]
        tables = [table for table in stored if table is not None]
        if tables:
            self.found[step] = self.found.get(step, 0) + len(tables)
        if len(tables) < len(stored):
            raise _NotStoredError(step, len(stored) - len(tables))
        return tables

    def _stored(self, stage: Stage, arguments: Arguments) -> pa.Table | None:
        """Return the result of a call, if it is there with the file that it names."""
        payload = self.workspace.results.find(step_key(stage, arguments)).payload
        if payload is None:
            return None
        table = from_ipc(payload)
        if stage.has_file is None:
            return table
        self.workspace.files.bring(table)
        return table if stage.has_file(table, self.machine.cache) else None
