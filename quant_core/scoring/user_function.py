"""Loads and calls functions of the user's, named `pkg.mod:fn`; what goes wrong in them is one line."""

from __future__ import annotations

import importlib
import reprlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError, named
from quant_core.storage.data import Column, samples_of

__all__ = ["call_function", "finite_number", "load_function", "user_metric"]

UserFunction = Callable[..., Any]
"""A function of the user's."""


def load_function(path: str, folder: str | None = None) -> UserFunction:
    """Import a user's `pkg.mod:fn`, also from the current folder and from one given.

    Raises InputError when it is not there.
    """
    module_name, _, name = path.partition(":")
    for place in (str(Path.cwd()), *([] if folder is None else [str(Path(folder).resolve())])):
        if place not in sys.path:
            sys.path.insert(0, place)
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # importing runs the user's code
        raise InputError(f"{path}: cannot be imported: {error}") from error
    if not callable(function):
        raise InputError(f"{path}: is not a function")
    return function  # type: ignore[no-any-return]


def call_function(path: str, function: UserFunction, *arguments: object) -> Any:
    """Call a user's function; raises InputError, with one line that says where, when it raises anything."""
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:  # the user's code
        raise InputError(f"{path}: raised {named(error)} ({_place(error, function)})") from error


def _place(error: BaseException, function: UserFunction) -> str:
    """Return the file and line where it was raised: in the user's own file, if it went through that."""
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(getattr(function, "__code__", None), "co_filename", None)
    frame = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def finite_number(path: str, returned: object) -> float:
    """Return what a user's function returned as a number; raises InputError where it is none, or not finite."""
    try:
        value = float(returned)  # type: ignore[arg-type] # whatever it is
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: returned {reprlib.repr(returned)}; it must return a number") from error
    if not np.isfinite(value):
        raise InputError(f"{path}: returned {value}; it must return a finite number")
    return value


def user_metric(
    function: str | None, outputs: Mapping[str, Column], labels: NDArray[np.generic] | None
) -> float | None:
    """Return what a user's metric says of outputs, one entry a sample, and labels; None without a metric."""
    if function is None:
        return None
    given = {name: samples_of(column) for name, column in outputs.items()}
    return finite_number(function, call_function(function, load_function(function), given, labels))
