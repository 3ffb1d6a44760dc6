"""The sign of life of a flow run on another machine, written to the run's own labels.

Prefect's heartbeats are events, at least 30 seconds apart and asked for one by one; labels come with the state, of
all runs in one answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client

__all__ = ["pulse_of", "pulsing", "seconds_between"]

_COUNT, _SECONDS = "narrowcast.pulse", "narrowcast.pulse-seconds"


@contextmanager
def pulsing(flow_run: UUID, seconds: float) -> Iterator[None]:
    """Give a sign of life every so many seconds while the block runs."""
    ended = Event()
    beat = Thread(target=_beat, args=(flow_run, seconds, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()


def _beat(flow_run: UUID, seconds: float, ended: Event) -> None:
    with get_client(sync_client=True) as client:
        count = 0
        while not ended.is_set():
            count += 1
            try:
                client.update_flow_run_labels(flow_run, {_COUNT: count, _SECONDS: seconds})
            except Exception:  # an API that is away for a while; the step it tells of has no need of it
                count -= 1
            ended.wait(seconds)


def pulse_of(labels: Mapping[str, Any]) -> int | None:
    """How many signs a run has given, from its labels."""
    return labels.get(_COUNT)


def seconds_between(labels: Mapping[str, Any]) -> float | None:
    """How far apart they are."""
    return labels.get(_SECONDS)
