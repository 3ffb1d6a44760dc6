"""The entry point of `narrowcast`: Ctrl-C is handled before anything else is imported, and the process ends at once."""

from __future__ import annotations

import atexit
import os
import sys
from threading import Timer

__all__ = ["STOPPED", "is_interrupt", "main"]

STOPPED = ("stopped; run the same command again to go on from here", 130)
"""What is said of Ctrl-C, and the exit code."""

_LAST_SECONDS = 2.0
"""For what Prefect still has to tell its server."""


def main() -> None:
    """Import the command line and run it."""
    end = _End()
    atexit.register(end)  # the first to be registered is the last to be called
    try:
        from flows.command_line import main as command_line

        try:
            command_line()
        except SystemExit as stop:
            end.code = stop.code
            if stop.code == STOPPED[1]:
                _end_soon(STOPPED[1])
            raise
        end.code = 0
    except (KeyboardInterrupt, Exception) as error:
        if not is_interrupt(error):
            raise
        message, code = STOPPED
        print(f"narrowcast: {message}", file=sys.stderr)
        _end_soon(code)
        sys.exit(code)


def _end_soon(code: int) -> None:
    """End the process though a thread still computes: what it computes, nobody takes any more."""
    timer = Timer(_LAST_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()


class _End:
    """Ends the process when all threads have ended and all else was called that is registered for its end.

    Python would take apart the 300,000 objects that are left, most of modules.
    """

    code: object = None
    """The exit code; None while the command runs, or has failed in a way that Python is to show."""

    def __call__(self) -> None:
        if isinstance(self.code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def is_interrupt(error: BaseException | None) -> bool:
    """Return whether an error stands for Ctrl-C.

    What is imported then may raise an ImportError in its place, and pydantic a SchemaError that has it as text alone.
    """
    return error is not None and (
        isinstance(error, KeyboardInterrupt)
        or "KeyboardInterrupt" in str(error)
        or is_interrupt(error.__cause__)
        or is_interrupt(error.__context__)
    )
