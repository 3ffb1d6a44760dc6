"""Ctrl-C while a long step is computed: the run stops when that is done, and a second one stops it at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer, current_thread, main_thread
from types import FrameType

__all__ = ["interrupts_explained"]

_PATIENCE = 3.0
"""Seconds after which a person may think that Ctrl-C was not heard."""
_WAITING = "narrowcast: stopping when the step that runs is done; Ctrl-C again stops at once"


@contextmanager
def interrupts_explained(patience: float = _PATIENCE) -> Iterator[None]:
    """Say what is waited for, where the block is still there so many seconds after a Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or current_thread() is not main_thread():
        yield  # Ctrl-C is ignored, or another program's
        return
    timer = Timer(patience, lambda: print(_WAITING, file=sys.stderr, flush=True))
    timer.daemon = True

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        timer.start()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
