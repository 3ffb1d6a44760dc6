"""References to files: what travels between steps instead of models and data."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import fsspec
from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict

from quant_core.errors import InputError

__all__ = ["Reference", "atomic_folder", "atomic_write", "fetch", "file_digest", "refer"]

_CHUNK = 1 << 20


class Reference(BaseModel):
    """A file or a folder of files, by where it is and what is in it."""

    model_config = ConfigDict(frozen=True)

    url: str
    """Any fsspec URL or local path."""
    sha256: str
    """Digest of the content; of a folder, over its files' names and digests."""


def refer(url: str | os.PathLike[str]) -> Reference:
    """Look at a file or folder and take its digest; raises InputError when it is not there."""
    text = os.fspath(url)
    try:
        files, path = url_to_fs(text)
        names = _listing(files, path)
        if names is None:
            with files.open(path, "rb") as stream:
                return Reference(url=text, sha256=_stream_digest(stream))
        whole = hashlib.sha256()
        for name in names:
            with files.open(f"{path}/{name}", "rb") as stream:
                whole.update(f"{name}\0{_stream_digest(stream)}\n".encode())
        return Reference(url=text, sha256=whole.hexdigest())
    except FileNotFoundError as error:
        raise InputError(f"{text}: no such file or folder") from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{text}: cannot be read: {error}") from error


def _listing(files: fsspec.AbstractFileSystem, path: str) -> list[str] | None:
    """Names of a folder's files, sorted; None when the path is a file."""
    if not files.isdir(path):
        return None
    found = [str(name) for name in files.ls(path, detail=False) if files.isfile(name)]
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)


def fetch(reference: Reference, cache: Path) -> Path:
    """A local path with the referenced content: the file itself when it is local, else a copy kept by digest.

    Raises InputError when the content is no longer what the reference says.
    """
    files, path = url_to_fs(reference.url)
    if files.protocol == "file" or "file" in files.protocol:
        if _local_digest(path, _stamp(Path(path))) != reference.sha256:
            raise InputError(f"{reference.url}: changed since this run began; start it again")
        return Path(path)
    copy = cache / "files" / reference.sha256 / str(path).rstrip("/").rsplit("/", 1)[-1]
    if not copy.exists():
        with atomic_folder(copy.parent) as folder:
            files.get(path, str(folder / copy.name), recursive=files.isdir(path))
            if refer(folder / copy.name).sha256 != reference.sha256:
                raise InputError(f"{reference.url}: changed since this run began; start it again")
    return copy


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever the file, or a file of the folder, is written."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.name, (info := file.stat()).st_mtime_ns, info.st_size) for file in files if file.exists())


@lru_cache(maxsize=256)
def _local_digest(path: str, stamp: tuple[tuple[str, int, int], ...]) -> str:
    # The stamp is part of the key only: an unchanged file is not hashed again by every step.
    return refer(path).sha256


def file_digest(path: Path) -> str:
    """Sha256 of a local file."""
    with path.open("rb") as stream:
        return _stream_digest(stream)


def _stream_digest(stream: object) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = _beside(path)
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> Path:
    """A free name next to a path. Not from tempfile, whose files are for their owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid4().hex}")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes its name only when it is complete; one that is already there wins."""
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        if not path.exists():
            try:
                temporary.rename(path)
            except OSError:
                if not path.exists():  # else another process was first, with the same content
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
