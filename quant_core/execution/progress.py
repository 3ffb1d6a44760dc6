"""Reports how far a run is, to the watcher if one is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Relay", "Watcher", "watched_by", "watcher"]


class Watcher:
    """Hears what happens; this one ignores it. Methods may be called from several threads."""

    def started(self, stage: str) -> None:
        """A stage begins."""

    def finished(self, stage: str, seconds: float, cached: bool) -> None:
        """A stage is done, computed or taken from an earlier run."""

    def expects(self, stage: str, units: int) -> None:
        """The stage is going to do that many units of work (adds up over calls)."""

    def advanced(self, stage: str, units: int) -> None:
        """That many units of work are done."""

    def tried(self, plan: str, score: float, accepted: bool) -> None:
        """The search has evaluated a plan, described in a few words."""

    def noted(self, message: str) -> None:
        """The run found something out that is worth a line."""

    def warned(self, message: str) -> None:
        """Something was not as it should be, and was mended."""


class Relay(Watcher):
    """Passes everything on to another watcher; a subclass hears it on the way."""

    def __init__(self, listener: Watcher) -> None:
        self._listener = listener

    def started(self, stage: str) -> None:
        """Pass it on."""
        self._listener.started(stage)

    def finished(self, stage: str, seconds: float, cached: bool) -> None:
        """Pass it on."""
        self._listener.finished(stage, seconds, cached)

    def expects(self, stage: str, units: int) -> None:
        """Pass it on."""
        self._listener.expects(stage, units)

    def advanced(self, stage: str, units: int) -> None:
        """Pass it on."""
        self._listener.advanced(stage, units)

    def tried(self, plan: str, score: float, accepted: bool) -> None:
        """Pass it on."""
        self._listener.tried(plan, score, accepted)

    def noted(self, message: str) -> None:
        """Pass it on."""
        self._listener.noted(message)

    def warned(self, message: str) -> None:
        """Pass it on."""
        self._listener.warned(message)


_current: ContextVar[Watcher] = ContextVar("watcher", default=Watcher())  # noqa: B039 - it has no state


def watcher() -> Watcher:
    """The watcher of this context."""
    return _current.get()


@contextmanager
def watched_by(listener: Watcher) -> Iterator[None]:
    """Send what happens inside the block to a watcher."""
    token = _current.set(listener)
    try:
        yield
    finally:
        _current.reset(token)
