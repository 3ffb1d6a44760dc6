"""Failures that pass, such as a store that does not answer, are waited for; those that do not are told at once."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeVar

from quant_core.errors import NarrowcastError, OutageError, one_line
from quant_core.execution.progress import watcher
from quant_core.urls import redacted

__all__ = ["may_pass", "patiently", "pauses"]

Result = TypeVar("Result")

PATIENCE = 150.0
"""Seconds for which a failing store is asked again."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0

_LASTING = (
    *(FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(NarrowcastError, MemoryError, NotImplementedError, ImportError, LookupError, TypeError, ValueError),
)
_PASSING_NUMBERS = frozenset(
    getattr(errno, name, errno.EIO)
    for name in """EAGAIN EBUSY EINTR EIO EREMOTEIO EPIPE ESTALE ETIMEDOUT ECONNABORTED ECONNREFUSED ECONNRESET ENOTCONN
    ENETDOWN ENETUNREACH ENETRESET EHOSTDOWN EHOSTUNREACH""".split()
)
_PASSING_STATUS = frozenset([408, 425, 429])


def may_pass(error: BaseException) -> bool:
    """Return whether the same call may succeed a little later.

    A full disk, a missing file, a refused password or bad input will not; a lost connection, a time-out or a
    server's own error may. What a store's library raises that is none of Python's own errors counts as passing,
    unless it says that the client is at fault.
    """
    if isinstance(error, _LASTING) or not isinstance(error, Exception) or "Credentials" in type(error).__name__:
        return False
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status in _PASSING_STATUS
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING_NUMBERS or isinstance(error, ConnectionError | TimeoutError)
    return True


def patiently(call: Callable[[], Result], place: str) -> Result:
    """Call, and again while it fails in a way that may pass; raises OutageError after some minutes of that."""
    began = time.monotonic()
    for pause in pauses():
        try:
            return call()
        except Exception as error:
            if not may_pass(error):
                raise
            reason, tried = redacted(one_line(error)), time.monotonic() - began
            if tried + pause > PATIENCE:
                raise OutageError(f"{redacted(place)}: has not answered for {tried:.0f} s: {reason}") from None
            watcher().warned(f"{redacted(place)}: {reason}; asked again in {pause:.1f} s")
            time.sleep(pause)
    raise AssertionError("pauses never end")


def pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt: twice as long each time, and never the same for two clients."""
    for attempt in count():
        yield min(_FIRST_PAUSE * 2 ** min(attempt, 30), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
