"""Calls runs in an order, each begun while the one before it is still busy with other things than computing.

A run talks to Prefect's server and writes its report: for a small model that takes about as long as computing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from tasks.turns import Turn, Turns

__all__ = ["Call", "staggered"]

_AT_ONCE = 2
"""Runs that have begun and are not over: one computes, and one begins or ends."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Call(Generic[_Result]):
    """A run to be called."""

    run: Callable[[], _Result]
    """Runs it; its stages are called by the process's turns (`tasks.turns`)."""
    may_overlap: bool
    """Whether another run may be there at the same time."""


def staggered(calls: Sequence[Call[_Result]]) -> Iterator[_Result]:
    """Yield what runs return, in their order.

    Where the caller is interrupted, or asks for no more, runs that have begun end with KeyboardInterrupt at their next
    stage.
    """
    turns, begun = Turns(), deque[tuple[Call[_Result], Future[_Result]]]()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        try:
            for call in calls:
                while begun and not (len(begun) < _AT_ONCE and call.may_overlap and begun[-1][0].may_overlap):
                    yield begun.popleft()[1].result()
                turn = turns.next()
                begun.append((call, threads.submit(copy_context().run, _called, call, turn)))
                # One begins at a time: Prefect numbers the runs that a flow calls as they come.
                turn.wait_until_taken()
            while begun:
                yield begun.popleft()[1].result()
        finally:
            turns.stop()


def _called(call: Call[_Result], turn: Turn) -> _Result:
    with turn.of_run():
        return call.run()
