"""The events that tell other programs what came of a run: `narrowcast.run.met`, `.missed` and so on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Literal

from prefect.events import emit_event

from quant_core.errors import NarrowcastError, TargetError, named, one_line
from quant_core.manifest import Manifest
from quant_core.results.outcome import Outcome
from quant_core.urls import redacted

__all__ = ["Ending", "facts_of", "failure_events", "reason_of", "tell"]

Ending = Literal["met", "missed", "failed", "waiting", "declined"]
"""How a run may end: with its target met, with a target that cannot be met, or not at all. One that asks a person is
`waiting` until it has an answer, which may be that nothing is published: `declined`."""


def tell(ending: Ending, model: str, output: str, **payload: Any) -> None:
    """Emit the event about a model; Prefect adds the flow run, its deployment and its work pool to what it is about."""
    place = redacted(model)
    emit_event(
        f"narrowcast.run.{ending}",
        resource={
            "prefect.resource.id": f"narrowcast.model.{place}",
            "prefect.resource.name": PurePosixPath(place).name,
        },
        related=[
            {
                "prefect.resource.id": f"narrowcast.output.{redacted(output)}",
                "prefect.resource.role": "narrowcast-output",
            }
        ],
        payload={"model": place, "output": redacted(output), **payload},
    )


@contextmanager
def failure_events(model: str, output: str) -> Iterator[None]:
    """Emit the event about a run that misses its target, or fails, in the block."""
    try:
        yield
    except TargetError as missed:
        facts = facts_of(missed.outcome.manifest) if isinstance(missed.outcome, Outcome) else {}
        tell("missed", model, output, reason=reason_of(missed), **facts)
        raise
    except Exception as error:
        tell("failed", model, output, reason=reason_of(error))
        raise


def reason_of(error: Exception) -> str:
    """Return why a run failed, in a line, without what may be secret."""
    return one_line(error) if isinstance(error, NarrowcastError) else redacted(named(error))


def facts_of(manifest: Manifest) -> dict[str, Any]:
    """Return what an event says of a finished run."""
    metric = manifest.target.metric
    score = manifest.scores.mixed.get(metric)
    return {
        "metric": metric,
        "limit": manifest.target.limit,
        "score": score if score is not None and math.isfinite(score) else None,
        "layers_narrowed": manifest.narrowed.layers,
        "layers": manifest.narrowed.of,
        "model_sha256": manifest.output.sha256,
        "random_data": list(manifest.data.random),
    }
