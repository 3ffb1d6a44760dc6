"""What is shown and told of a run, in Prefect's UI and by events, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.ui.artifacts import publish, show_probing
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
            publish(missed.outcome)
        raise


def show_result(outcome: Outcome) -> dict[str, Any]:
    """Show what came of a run in Prefect's UI; return its manifest as plain JSON values."""
    publish(outcome)
    return outcome.manifest.model_dump(mode="json")
