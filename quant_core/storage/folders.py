"""Folders that a run is given to write to."""

from __future__ import annotations

import os
from pathlib import Path

from quant_core.errors import InputError

__all__ = ["usable_folder"]


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
