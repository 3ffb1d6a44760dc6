"""Files and folders in the making, and what is left of them when their maker is killed.

Each has a hidden name, and its maker holds a lock on it that the system takes back however the process ends. What
nobody holds, and nobody has written to for an hour, is left over for certain, even if several processes look. Where
locks are not to be had (some network file systems), everything stays.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["clear_leftovers", "held", "hidden_beside", "places_told", "scratch_folder"]

_HIDDEN = re.compile(r"\..+\.[0-9a-f]{32}")

_QUIET_SECONDS = 3600.0
"""Between the making of a file and the lock on it there is a moment, and versions before this one took no locks."""


def hidden_beside(path: Path) -> Path:
    """A free hidden name next to a path. Not from tempfile, whose files are for their owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f".{path.name}.{uuid4().hex}"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder for the time of the block."""
    folder = hidden_beside(parent / "scratch")
    folder.mkdir()
    try:
        with places_told(parent), held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def places_told(path: Path) -> Iterator[None]:
    """Have errors of the system name the path where they name no file: a full disk does not say where."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def held(place: Path) -> Iterator[None]:
    """Keep `clear_leftovers`, of any process, from a file or folder for the time of the block."""
    with _locked(place):
        yield


def clear_leftovers(folder: Path) -> None:
    """Remove what makers that are dead have left in a folder, but not in those below it."""
    with suppress(OSError):
        for place in sorted(folder.iterdir()):
            if _HIDDEN.fullmatch(place.name) and not place.is_symlink():
                with suppress(OSError):  # another process may have been faster
                    _clear(place)


def _clear(place: Path) -> None:
    """Remove a file or folder if it is left over."""
    newest = max(path.lstat().st_mtime for path in [place, *place.rglob("*")])
    if time.time() - newest < _QUIET_SECONDS:
        return
    with _locked(place) as is_ours:
        if is_ours and place.is_dir():
            shutil.rmtree(place)
        elif is_ours:
            place.unlink()


@contextmanager
def _locked(place: Path) -> Iterator[bool]:
    """Try to lock a file or folder for the time of the block; whether it is locked."""
    if fcntl is None:
        yield False
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except OSError:
            locked = False
        yield locked
    finally:
        os.close(descriptor)
