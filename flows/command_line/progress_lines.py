"""Progress where nothing can be drawn over: a line now and then, in a pipe, a log file, or the output of a CI job."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

__all__ = ["ProgressLines", "duration"]

_SECONDS = 15.0


class ProgressLines:
    """Tells how far a stage is, at most every 15 seconds; a stage that takes less is never mentioned."""

    def __init__(self, screen: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen, self._clock = screen, clock
        self.begin("start")

    def begin(self, stage: str) -> None:
        """Another stage runs."""
        self._stage, self._done, self._total = stage, 0, 0
        self._began = self._told = self._clock()

    def lengthen(self, units: int) -> None:
        """There is that much more to do."""
        self._total += units

    def advance(self, units: int) -> None:
        """That much more is done; say so if it is time."""
        self._done += units
        now = self._clock()
        if now - self._told < _SECONDS or not 0 < self._done < self._total:
            return
        self._told = now
        share = self._done / self._total
        left = (now - self._began) * (1 - share) / share
        self._screen.print(f"{self._stage:<10} {share:.0%}, about {duration(left)} left", highlight=False)


def duration(seconds: float) -> str:
    """A time, as exact as a forecast is: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
