"""Runs a command as a whole process and measures it from outside."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """What a finished process took."""

    seconds: float
    """Wall time from start to exit."""
    peak_mib: float
    """Largest resident memory of the process itself, in MiB."""
    output: str
    """What it printed."""


def measured(command: Sequence[str], folder: Path | None = None, **environment: str) -> Measured:
    """Run a command to its end, in a folder if given; raises RuntimeError with its last lines unless it exits with 0."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{Path(command[0]).name} exited with {process.returncode}:\n{output[-3000:]}")
    return Measured(seconds, usage.ru_maxrss / 1024, output)
