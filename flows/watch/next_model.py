"""Computes the first steps of the model that comes next while the run of the one before is busy with other things.

A run talks to Prefect's server and writes its report: for a small model that takes about as long as computing. What is
computed ahead is handed to the tasks of the model's own run (`tasks.head_start`), and computed only while no task of
the run before computes (`tasks.turns`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from flows.watch.watched_folder import Job
from quant_core.execution.machine import available_cores
from quant_core.pipeline.job import QuantizationJob
from quant_core.results.output_place import OutputPlace
from tasks.cache.workspace import Workspace
from tasks.executors.choice import ExecutorKind
from tasks.head_start import HeadStart, begin_head_start, taken_from

__all__ = ["NextModel"]


class NextModel:
    """The model that comes after the one that runs; use it in a `with` block, at whose end no more is computed."""

    def __init__(self, workspace: Workspace, workers: int | None, runner: ExecutorKind | None) -> None:
        self._workspace, self._workers = workspace, workers or available_cores()
        self._is_here = runner in (None, "thread")
        self._begun: tuple[Job, HeadStart] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._let_go()

    @contextmanager
    def begun_beside(self, job: Job, following: Job | None) -> Iterator[None]:
        """Run a job in the block, with what was computed of it ahead, and begin the one that follows."""
        begun = self._taken(job)
        if following is not None and self._is_here:
            self._begun = following, begin_head_start(self._job(following), self._workspace, self._workers)
        with taken_from(begun):
            yield

    def _taken(self, job: Job) -> HeadStart:
        """Return the head start of a job; an empty one where it has none."""
        if self._begun is None or self._begun[0] is not job:
            self._let_go()
            return HeadStart()
        (_, found), self._begun = self._begun, None
        return found

    def _let_go(self) -> None:
        if self._begun is not None:
            self._begun[1].end()
            self._begun = None

    def _job(self, job: Job) -> QuantizationJob:
        """Return what its run is going to be asked; nothing is written to its output before."""
        data = (job.calibration, job.evaluation, job.holdout)
        return QuantizationJob(job.model, *data, job.config, OutputPlace(self._workspace.cache))
