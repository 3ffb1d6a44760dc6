"""Errors that are raised on purpose: each is one line that a user can act on."""

from quant_core.urls import redacted

__all__ = [
    "IncompleteError",
    "InputError",
    "NarrowcastError",
    "OutageError",
    "TargetError",
    "UnsupportedError",
    "first_line",
    "named",
    "one_line",
]


class NarrowcastError(Exception):
    """Base of every error narrowcast raises on purpose; its text is one line meant for the user.

    The text is logged and stored in many places: what may be secret in a URL is left out of it.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))


class InputError(NarrowcastError):
    """A model, a data set or an option is not usable as it is. The command line exits with 2."""


class UnsupportedError(InputError, NotImplementedError):
    """What was asked for is understood but not supported; the text says what to use instead."""


class IncompleteError(InputError):
    """A file ends too early, changes, or is not there with what it needs: perhaps it is still being written."""


class OutageError(NarrowcastError):
    """Something the run depends on, a store above all, has failed for longer than is waited. Exit code 1."""


class TargetError(NarrowcastError):
    """No plan meets the target, not even the wide model; the text says by how much. Exit code 3."""

    def __init__(self, message: str, outcome: object = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        """The Outcome of the run: the best model that was found is written nevertheless."""


def one_line(error: BaseException) -> str:
    """Return an exception's whole text as one line, or the name of its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def named(error: BaseException) -> str:
    """Return the class and the text of an exception as one line: `KeyError: 'conv1'`, or `MemoryError` alone."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or the name of its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
