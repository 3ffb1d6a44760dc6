"""The log of a run in Prefect's UI: one line for each thing that a person would want to know."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from quant_core.config import Criterion
from quant_core.errors import InputError, TargetError
from quant_core.execution.progress import Relay, Watcher, watched_by, watcher
from quant_core.manifest import Manifest
from quant_core.report.sentences.summary import summary
from quant_core.report.text import METRIC_NAMES, metric_text

__all__ = ["log_outcome", "logged_run", "run_logger"]


@contextmanager
def logged_run(target: Criterion) -> Iterator[None]:
    """Log stages with their seconds and plans with their scores while the block runs; watchers still hear all.

    What ends a run is logged later, by Prefect: without a traceback where its message is all there is to know.
    """
    logging.getLogger("prefect.flow_runs").addFilter(_without_needless_traceback)
    with watched_by(RunLog(watcher(), run_logger(), target)):
        yield


def _without_needless_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback off a missed target and unusable input, which no line of the code is to blame for."""
    if record.exc_info and isinstance(record.exc_info[1], TargetError | InputError):
        record.exc_info = None
    return True


def log_outcome(manifest: Manifest) -> None:
    """Log the verdict, and how many steps were found in the workspace."""
    said, work, logger = summary(manifest), manifest.work, run_logger()
    logger.info(f"{work.cached_steps} steps found in the workspace, {work.computed_steps} computed")
    logger.info(f"{said.headline}. {said.verdict}")


def run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the log of the flow run, or a plain one where a flow is called as a plain function."""
    return logging.getLogger("narrowcast") if FlowRunContext.get() is None else get_run_logger()


class RunLog(Relay):
    """Writes what a watcher hears to a log."""

    def __init__(
        self, listener: Watcher, logger: logging.Logger | logging.LoggerAdapter[logging.Logger], target: Criterion
    ) -> None:
        super().__init__(listener)
        self._logger, self._target = logger, target

    def finished(self, stage: str, seconds: float, cached: bool) -> None:
        """Log how long a stage took, or that its results were there."""
        found = "found in the workspace" if cached else "computed"
        self._logger.info(f"{stage}: {found}, {seconds:.1f} s")
        super().finished(stage, seconds, cached)

    def tried(self, plan: str, score: float, accepted: bool) -> None:
        """Log a plan that was tried, its score, and whether it is accepted."""
        metric = self._target.metric
        score_text = f"{METRIC_NAMES[metric]} {metric_text(metric, score)}"
        verdict = "accepted" if accepted else "refused"
        self._logger.info(f"plan with {plan}: {score_text}, {verdict}")
        super().tried(plan, score, accepted)

    def noted(self, message: str) -> None:
        """Log what the run found out."""
        self._logger.info(message)
        super().noted(message)

    def warned(self, message: str) -> None:
        """Log what was mended."""
        self._logger.warning(message)
        super().warned(message)
