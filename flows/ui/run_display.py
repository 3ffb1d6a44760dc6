"""What is shown and told of a run, in Prefect's UI and by events, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.ui.artifacts import publish, show_probing
from flows.ui.lineage import record_lineage
from flows.ui.run_log import log_outcome
from quant_core.errors import TargetError
from quant_core.results.outcome import Outcome

__all__ = ["show_result", "show_run"]


@contextmanager
def show_run() -> Iterator[None]:
    """Show the progress of probing while the block runs, and the best model found where its target cannot be met."""
    try:
        with show_probing():
            yield
    except TargetError as missed:
        if isinstance(missed.outcome, Outcome):
            _show(missed.outcome)
        raise


def show_result(outcome: Outcome) -> dict[str, Any]:
    """Show what came of a run in Prefect's UI; return its manifest as plain JSON values."""
    _show(outcome)
    return outcome.manifest.model_dump(mode="json")


def _show(outcome: Outcome) -> None:
    publish(outcome)
    record_lineage(outcome)
    log_outcome(outcome.manifest)
