"""Runs that share a process: one computes at a time, in the order in which they began.

Meanwhile the run before it may write its report and end, and the run after it may begin: that is mostly talk with
Prefect's server. So the memory that a run may fill is filled once, and a step is timed while nothing else runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from threading import Condition

from quant_core.pipeline.stages import DEVICE_LATENCY, LATENCY, OWN_SCORE, TIMING

__all__ = ["ALONE", "Turn", "Turns", "current_turn"]

ALONE = (LATENCY, DEVICE_LATENCY, TIMING, OWN_SCORE)
"""Stages that nothing runs beside: they time models, or call a command of the user's."""


class _State(IntEnum):
    """How far a run is."""

    BEGINS = 0
    WAITS = 1
    COMPUTES = 2
    HAS_COMPUTED = 3
    IS_OVER = 4


class Turns:
    """The turns of the runs of one process."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.runs: list[Turn] = []
        """The runs that are not over, in the order in which they began."""
        self.is_stopped = False

    def next(self) -> Turn:
        """Return the turn of a run that begins after all that were begun."""
        with self.changed:
            turn = Turn(self)
            self.runs.append(turn)
        return turn

    def stop(self) -> None:
        """Let every run end with KeyboardInterrupt where it calls its next stage, or waits for its turn."""
        with self.changed:
            self.is_stopped = True
            self.changed.notify_all()


class Turn:
    """When one run may compute."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._state = _State.BEGINS

    @contextmanager
    def of_run(self) -> Iterator[None]:
        """Make it the turn of the run in the block; at its end the run is over."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            self._is_now(_State.IS_OVER)

    def take(self, alone: bool = False) -> None:
        """Wait until the runs before have computed; if `alone`, until they are over and those after it wait.

        Raises KeyboardInterrupt where the runs are stopped.
        """
        with self._turns.changed:
            if self._state < _State.COMPUTES:
                self._is_now(_State.WAITS)
            self._turns.changed.wait_for(lambda: self._turns.is_stopped or self._has_come(alone))
            if self._turns.is_stopped:
                raise KeyboardInterrupt
            self._is_now(_State.COMPUTES)

    def give_back(self) -> None:
        """Let the next run compute: this one calls no stage any more."""
        self._is_now(max(self._state, _State.HAS_COMPUTED))

    def wait_until_taken(self) -> None:
        """Wait until the run computes, or has done so."""
        with self._turns.changed:
            self._turns.changed.wait_for(lambda: self._state >= _State.COMPUTES)

    def _has_come(self, alone: bool) -> bool:
        runs = self._turns.runs
        place = runs.index(self)
        before, after = runs[:place], runs[place + 1 :]
        if alone:
            return not before and all(run._state is _State.WAITS for run in after)
        return all(run._state >= _State.HAS_COMPUTED for run in before)

    def _is_now(self, state: _State) -> None:
        with self._turns.changed:
            self._state = state
            if state is _State.IS_OVER:
                self._turns.runs.remove(self)
            self._turns.changed.notify_all()


_current: ContextVar[Turn | None] = ContextVar("turn", default=None)


def current_turn() -> Turn:
    """Return the turn of the run that calls; one that waits for nobody where it shares the process with none."""
    return _current.get() or Turns().next()
