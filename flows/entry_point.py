"""The entry point of `narrowcast`: Ctrl-C is handled before anything else is imported."""

from __future__ import annotations

import sys

__all__ = ["STOPPED", "is_interrupt", "main"]

STOPPED = ("stopped; run the same command again to go on from here", 130)
"""What is said of Ctrl-C, and the exit code."""


def main() -> None:
    """Import the command line and run it."""
    try:
        from flows.command_line import main as command_line

        command_line()
    except (KeyboardInterrupt, Exception) as error:
        if not is_interrupt(error):
            raise
        message, code = STOPPED
        print(f"narrowcast: {message}", file=sys.stderr)
        sys.exit(code)


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
