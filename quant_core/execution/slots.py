"""Slots of a limit that runs on several machines share, such as a board that only one of them may use at a time.

The engine asks for a slot by name; what runs the engine says what that means. Alone it means nothing: one run measures
one thing at a time anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

__all__ = ["Slots", "held_slot", "slots_from"]

Slots = Callable[[str], AbstractContextManager[None]]
"""Takes the name of a limit, and holds one of its slots for as long as the block runs."""


def _no_limit(_: str) -> AbstractContextManager[None]:
    return nullcontext()


_current: ContextVar[Slots] = ContextVar("slots", default=_no_limit)


def held_slot(limit: str | None) -> AbstractContextManager[None]:
    """Hold a slot of a limit inside the block; nothing to wait for without a name."""
    return nullcontext() if limit is None else _current.get()(limit)


@contextmanager
def slots_from(slots: Slots) -> Iterator[None]:
    """Say, inside the block, what takes slots."""
    token = _current.set(slots)
    try:
        yield
    finally:
        _current.reset(token)
