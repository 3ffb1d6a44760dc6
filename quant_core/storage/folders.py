"""Folders that a run is given to write to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from quant_core.errors import InputError

__all__ = ["check_folder", "usable_folder"]


def usable_folder(path: Path, role: str) -> Path:
    """Return the folder, made when it is not there; raises InputError when it cannot be made, or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        taken = next(place for place in [path, *path.parents] if place.exists())
        raise InputError(f"{role} {path}: {taken} is a file, not a folder") from error
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"{role} {path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"{role} {path}: may not be written to")
    return path


def check_folder(path: Path, role: str) -> None:
    """Raise InputError when a folder cannot be made, or written to; what is not there yet is not left behind."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    try:
        usable_folder(path, role)
    finally:
        for place in missing:  # the innermost first
            with suppress(OSError):  # it was not made, or somebody has filled it since
                place.rmdir()
