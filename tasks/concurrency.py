"""Slots of Prefect's global concurrency limits, for what only so many runs may use at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from quant_core.errors import InputError

__all__ = ["slot_of_prefect"]


@contextmanager
def slot_of_prefect(limit: str) -> Iterator[None]:
    """Hold a slot of a global concurrency limit; raises InputError where Prefect has none of that name."""
    _check_exists(limit)
    with concurrency(limit, strict=True):
        yield


def _check_exists(limit: str) -> None:
    # Without this Prefect goes on without a limit, or waits; and what it raises says nothing of what to do.
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.read_global_concurrency_limit_by_name(limit)
    except ObjectNotFound as error:
        raise InputError(
            f"timer_limit: Prefect has no global concurrency limit {limit!r}; make it first: "
            f"prefect gcl create {limit} --limit 1"
        ) from error
