"""References to files: what travels between steps instead of models and data."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict

from quant_core.errors import IncompleteError, InputError
from quant_core.execution.progress import watcher
from quant_core.storage.data_forms import DataForm, PictureForm, RandomForm
from quant_core.storage.retry import patiently
from quant_core.storage.scratch import held, hidden_beside, places_told
from quant_core.urls import redacted

__all__ = ["Reference", "atomic_copy", "atomic_folder", "atomic_write", "fetch", "file_digest", "made_folder", "refer"]

_CHUNK = 1 << 20


class Reference(BaseModel):
    """A file or a folder of files, by where it is and what is in it."""

    model_config = ConfigDict(frozen=True)

    url: str
    """Any fsspec URL or local path."""
    sha256: str
    """Digest of the content; of a folder, over its files' names and digests."""
    beside: tuple[str, ...] = ()
    """Files of its folder, or of folders in that, which belong to the file; their content is in the digest."""
    form: DataForm | None = None
    """How data are read that are no arrays yet; it is in the digest."""
    called: str = ""
    """What messages call it, where its place says nothing to a person."""

    def __str__(self) -> str:
        return self.called or redacted(self.url)


def refer(
    url: str | os.PathLike[str], beside: Sequence[str] = (), form: DataForm | None = None, settled: bool = False
) -> Reference:
    """Look at a file or folder and take its digest; raises InputError when it is not there.

    `beside` names files of the same folder that the file cannot do without. In a `form` of pictures a folder's
    sub-folders belong to it; random data are nowhere. What is `settled` was written once, maybe just now.
    """
    if form is None:
        return _referred(os.fspath(url), beside, settled=settled)
    plain = None if isinstance(form, RandomForm) else _referred(os.fspath(url), (), isinstance(form, PictureForm))
    content = f"{plain.sha256 if plain else ''}\0{form.model_dump_json()}"
    return Reference(url=os.fspath(url), sha256=hashlib.sha256(content.encode()).hexdigest(), form=form)


def _referred(text: str, beside: Sequence[str], deep: bool = False, settled: bool = False) -> Reference:
    try:
        files, path = url_to_fs(text)
        if _is_local(files):
            digest = _stamped_digest(path, tuple(beside), deep, settled)
        else:
            files.invalidate_cache()  # it may have been written since this process looked there
            digest = patiently(partial(_digest, files, path, beside, deep), text)
    except FileNotFoundError:
        # No cause: logs print it too, and a store's library names the whole URL in it.
        missing = [name for name in beside if not files.exists(_sibling(path, name))]
        if missing:
            raise IncompleteError(f"{redacted(text)}: its file {missing[0]} is missing") from None
        raise InputError(f"{redacted(text)}: no such file or folder") from None
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{redacted(text)}: cannot be read: {redacted(str(error))}") from None
    return Reference(url=text, sha256=digest, beside=tuple(beside))


def _is_local(files: fsspec.AbstractFileSystem) -> bool:
    return "file" in ([files.protocol] if isinstance(files.protocol, str) else files.protocol)


def _digest(files: fsspec.AbstractFileSystem, path: str, beside: Sequence[str], deep: bool = False) -> str:
    names = _listing(files, path, deep)
    if names is None and not beside:
        return _file_digest(files, path)
    if names is None:
        places = {"": path} | {name: _sibling(path, name) for name in beside}
    else:
        places = {name: f"{path}/{name}" for name in names}
    whole = hashlib.sha256()
    for name, place in places.items():
        whole.update(f"{name}\0{_file_digest(files, place)}\n".encode())
    return whole.hexdigest()


def _file_digest(files: fsspec.AbstractFileSystem, path: str) -> str:
    with files.open(path, "rb") as stream:
        return _stream_digest(stream)


def _sibling(path: str, name: str) -> str:
    return f"{path.rpartition('/')[0]}/{name}"


def _listing(files: fsspec.AbstractFileSystem, path: str, deep: bool) -> list[str] | None:
    """Names of a folder's files, sorted, those of sub-folders if it is `deep`; None when the path is a file."""
    if not files.isdir(path):
        return None
    if deep:
        folder = str(files._strip_protocol(path)).rstrip("/")
        return sorted(str(name)[len(folder) + 1 :] for name in files.find(folder))
    found = [str(name) for name in files.ls(path, detail=False) if files.isfile(name)]
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)


def fetch(reference: Reference, cache: Path) -> Path:
    """A local path with the referenced content: the file itself when it is local, else a copy kept by digest.

    Raises InputError when the content is no longer what the reference says.
    """
    files, path = url_to_fs(reference.url)
    if _is_local(files):
        return _checked(Path(path), reference)
    name = str(path).rstrip("/").rsplit("/", 1)[-1]
    copy = cache / "files" / reference.sha256 / name
    if copy.exists():
        try:
            return _checked(copy, reference)
        except InputError:
            watcher().warned(f"the copy of {reference} in the workspace is damaged; it is fetched again")
            shutil.rmtree(copy.parent)
    with atomic_folder(copy.parent) as folder:
        patiently(partial(files.get, path, str(folder / name), recursive=files.isdir(path)), reference.url)
        for other in reference.beside:
            made_folder((folder / other).parent)
            patiently(partial(files.get, _sibling(path, other), str(folder / other)), reference.url)
        _checked(folder / name, reference)
    return copy


def _checked(path: Path, reference: Reference) -> Path:
    if refer(path, reference.beside, reference.form).sha256 != reference.sha256:
        raise IncompleteError(f"{reference}: changed since this run began; start it again")
    return path


Stamp = tuple[tuple[str, int, int, int, int], ...]

_RESOLUTION_NS = 2_000_000_000
"""The coarsest that file systems tell the time of a write in (FAT)."""


def _stamp(path: Path, beside: Sequence[str] = (), deep: bool = False) -> Stamp:
    """Changes whenever the file, or a file of the folder, is written, but for two writes close together."""
    inside = path.rglob("*") if deep else path.iterdir() if path.is_dir() else ()
    files = sorted(inside) if path.is_dir() else [path, *(path.parent / name for name in beside)]
    return tuple(
        (
            str(file) if deep else file.name,
            (info := file.stat()).st_size,
            info.st_ino,
            info.st_mtime_ns,
            info.st_ctime_ns,
        )
        for file in files
        if file.exists()
    )


def _stamped_digest(path: str, beside: tuple[str, ...], deep: bool, settled: bool) -> str:
    """Digest of a local file or folder, which is not read again by every step while it is as it was."""
    stamp = _stamp(Path(path), beside, deep)
    written_lately = not settled and any(time.time_ns() - max(one[-2:]) < _RESOLUTION_NS for one in stamp)
    return (_local_digest.__wrapped__ if written_lately else _local_digest)(path, beside, deep, stamp)


@lru_cache(maxsize=256)
def _local_digest(path: str, beside: tuple[str, ...], deep: bool, stamp: Stamp) -> str:
    # The stamp is part of the key only.
    return _digest(url_to_fs(path)[0], path, beside, deep)


def file_digest(path: Path) -> str:
    """Sha256 of a local file."""
    with path.open("rb") as stream:
        return _stream_digest(stream)


def _stream_digest(stream: object) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def made_folder(path: Path) -> Path:
    """The folder, made with all above it when it is not there."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def atomic_write(path: Path, data: bytes, lasting: bool = True) -> None:
    """Write a file so that it is there whole or not at all, whatever ends the process.

    One that is not `lasting` may be damaged when the machine loses power: its reader has to notice.
    """
    with _taking_the_place_of(path, lasting) as stream:
        stream.write(data)


def atomic_copy(source: Path, path: Path) -> None:
    """Copy a file of any size so that it is there whole or not at all."""
    with source.open("rb") as original, _taking_the_place_of(path) as stream:
        shutil.copyfileobj(original, stream, _CHUNK)


@contextmanager
def _taking_the_place_of(path: Path, lasting: bool = True) -> Iterator[BinaryIO]:
    temporary = hidden_beside(path)
    try:
        with places_told(path), temporary.open("xb") as stream, held(temporary):
            yield stream
            if lasting:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes its name only when it is complete; one that is already there wins."""
    temporary = hidden_beside(path)
    temporary.mkdir()
    try:
        with places_told(path), held(temporary):
            yield temporary
            _take_name(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_name(temporary: Path, path: Path) -> None:
    if not path.exists():
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():  # else another process was first, with the same content
                raise
