"""Takes turns between a run's tasks and the head start of another run: while one computes, the other waits.

So the memory that a run may fill is filled once, and what is timed is timed alone. A head start computes in the gaps:
while the run talks to its server, or writes its report.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

__all__ = ["turn_of_head_start", "turn_of_task"]


class _Turns:
    """Who computes in this process, and who is about to."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.tasks = 0
        """Tasks that compute or wait for the head start to be done with its step."""
        self.ahead = False
        """Whether a head start computes."""


_turns = _Turns()


@contextmanager
def turn_of_task() -> Iterator[float]:
    """Compute in the block, beside other tasks, once no head start computes; none begins a step meanwhile.

    Yields the seconds that were waited.
    """
    asked = time.perf_counter()
    with _turns.changed:
        _turns.tasks += 1
        _turns.changed.wait_for(lambda: not _turns.ahead)
    try:
        yield time.perf_counter() - asked
    finally:
        with _turns.changed:
            _turns.tasks -= 1
            _turns.changed.notify_all()


@contextmanager
def turn_of_head_start() -> Iterator[None]:
    """Compute in the block, once no task and no other head start does."""
    with _turns.changed:
        _turns.changed.wait_for(lambda: not (_turns.tasks or _turns.ahead))
        _turns.ahead = True
    try:
        yield
    finally:
        with _turns.changed:
            _turns.ahead = False
            _turns.changed.notify_all()
