"""A folder of files at any fsspec URL, which several machines read and write at the same time.

A file is there whole or not at all: on object stores it is written by one put, elsewhere under another name and
then renamed. A store that fails for a while is asked again (see `retry`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import fsspec
from fsspec.core import url_to_fs

from quant_core.errors import InputError, NarrowcastError, one_line
from quant_core.storage.references import atomic_folder, atomic_write, made_folder
from quant_core.storage.retry import patiently
from quant_core.urls import is_remote, redacted

__all__ = ["Store"]

Result = TypeVar("Result")

_OBJECT_STORES = frozenset(["s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory"])


@dataclass(frozen=True)
class Store:
    """A folder at a URL or a local path; files in it have names with slashes."""

    url: str
    """Where it is. How to get there (endpoints, credentials) is left to fsspec's configuration and the environment."""

    def __truediv__(self, name: str) -> Store:
        return Store(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return redacted(self.url)

    @property
    def folder(self) -> Path | None:
        """The local folder that it is; None when it is somewhere else."""
        return None if is_remote(self.url) else Path(self.url.removeprefix("file://").removeprefix("local://"))

    def read(self, name: str) -> bytes | None:
        """The content of a file; None when there is no such file."""
        local = self._local(name)
        try:
            return local.read_bytes() if local else self._asked(lambda: self._files.cat_file(self._path(name)), name)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes, lasting: bool = True) -> None:
        """Write a file in one go, over one that is there; `lasting` as in `atomic_write`."""
        local = self._local(name)
        if local:
            atomic_write(local, data, lasting)
        else:
            self._asked(lambda: self._put(name, lambda path: self._files.pipe_file(path, data)), name)

    def upload(self, name: str, path: Path) -> None:
        """Write a file, or all files of a folder and the folders in it, from local ones."""
        inner = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
        places = {f"{name}/{file.relative_to(path).as_posix()}": file for file in inner} or {name: path}
        for place, file in places.items():
            put = partial(self._files.put_file, str(file))
            self._asked(partial(self._put, place, put), place)

    def download(self, name: str, path: Path) -> bool:
        """Copy a folder to a local one that takes its name when it is complete; False when there is none."""
        found = self.names(name)
        if not found:
            return False
        with atomic_folder(path) as building:
            for inner in found:
                made_folder((building / inner).parent)
                place = f"{name}/{inner}".lstrip("/")
                self._asked(partial(self._files.get_file, self._path(place), str(building / inner)), place)
        return True

    def names(self, name: str) -> list[str]:
        """Names of all files below a folder, relative to it, sorted; raises InputError for one that leads out of it."""
        return list(self.listing(name))

    def listing(self, name: str) -> dict[str, Mapping[str, Any]]:
        """Return what the store tells of each file below a folder (size, time, tag), by `names`."""
        top = self._path(name)
        found = self._asked(lambda: self._found(top), name)
        names = {str(path)[len(top) :].lstrip("/"): facts for path, facts in sorted(found.items())}
        if any(".." in inner.split("/") for inner in names):
            raise InputError(f"{self / name}: holds a file whose name leads out of the folder")
        return {inner: facts for inner, facts in names.items() if inner}

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, where there is one."""
        self._asked(lambda: self._removed(self._path(name)), name)

    def check(self, role: str) -> None:
        """Raise InputError unless files can be written there and read again."""
        name = f".narrowcast-{uuid4().hex}"
        try:
            self.write(name, b"narrowcast")
            readable = self.read(name) == b"narrowcast"
            self.remove(name)
        except NarrowcastError:
            raise
        except Exception as error:  # a store's library raises what it likes
            raise InputError(f"{role} {self}: cannot be used: {redacted(one_line(error))}") from None
        if not readable:
            raise InputError(f"{role} {self}: what is written there cannot be read back")

    @property
    def _files(self) -> fsspec.AbstractFileSystem:
        return url_to_fs(self.url)[0]

    def _path(self, name: str) -> str:
        return f"{url_to_fs(self.url)[1].rstrip('/')}/{name}"

    def _local(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def _asked(self, call: Callable[[], Result], name: str) -> Result:
        return patiently(call, f"{self}/{name}")

    def _put(self, name: str, put: Callable[[str], object]) -> None:
        path, protocols = self._path(name), self._files.protocol
        if not _OBJECT_STORES.isdisjoint([protocols] if isinstance(protocols, str) else protocols):
            put(path)
            return
        parent, _, last = path.rpartition("/")
        temporary = f"{parent}/.{last}.{uuid4().hex}"
        self._files.makedirs(parent, exist_ok=True)
        put(temporary)
        self._files.mv(temporary, path)

    def _found(self, path: str) -> dict[str, Mapping[str, Any]]:
        self._files.invalidate_cache()  # other machines write too
        try:
            return dict(self._files.find(path, detail=True))
        except FileNotFoundError:
            return {}

    def _removed(self, path: str) -> None:
        self._files.invalidate_cache()
        if self._files.exists(path):
            self._files.rm(path, recursive=self._files.isdir(path))
