"""Runs a user's command on a model file, and reads the score that it prints."""

from __future__ import annotations

import json
import os
import reprlib
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

from quant_core.errors import InputError

__all__ = ["command_arguments", "command_output"]

_OPTION = "evaluate_command"


def command_arguments(command: str) -> list[str]:
    """Return the words of a command line; raises InputError for a quote that is not closed."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise InputError(f"{_OPTION}: {command!r} cannot be read: {error}") from error


def command_output(command: str, model: Path, data: str, timeout: float) -> Any:
    """Run a command on a model file and return what it prints: a number, or a list.

    Args:
        command: the command line; `{model}` and `{data}` stand for the next two, and the file comes last without.
        model: the model file.
        data: path or URL of the data it is evaluated on.
        timeout: the longest time it may take, in seconds; then it is ended, with what it started.

    Raises InputError for a command that is not there, fails, takes too long, or whose last line is no score.

    """
    words = command_arguments(command if "{model}" in command else f"{command} {{model}}")
    places = {"{model}": str(model), "{data}": data}
    status, output, errors = _finished([_filled(word, places) for word in words], timeout)
    if status:
        last = next((line for line in reversed((errors or output).splitlines()) if line.strip()), "it says nothing")
        raise InputError(f"{_OPTION}: ended with exit code {status}: {last.strip()}")
    return _printed_score(output)


def _filled(word: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _finished(words: list[str], timeout: float) -> tuple[int, str, str]:
    """Run a command to its end; its exit code, output and errors."""
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise InputError(f"{_OPTION}: {words[0]}: {error.strerror}") from error
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{_OPTION}: was ended after {timeout:g} seconds (evaluate_timeout)") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


def _printed_score(output: str) -> Any:
    """Return the score that a command prints as its last line, or as JSON over several."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for text in (lines[-1] if lines else "", output):
        try:
            found = json.loads(text)
        except ValueError:
            continue
        score = found.get("score") if isinstance(found, dict) else found
        if isinstance(score, int | float | list) and not isinstance(score, bool):
            return score
    last = reprlib.repr(lines[-1]) if lines else "empty"
    raise InputError(
        f"{_OPTION}: the last line of its output is {last}; it must be a number, or JSON: a number, a list with one "
        'value a sample, or either as "score" of an object'
    )
