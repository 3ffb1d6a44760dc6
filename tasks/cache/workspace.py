"""Where everything that a run need not do twice is kept: a folder, or the URL of one that all machines reach."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from quant_core.execution.machine import Machine, default_cache, default_workspace
from quant_core.storage.folders import usable_folder
from quant_core.storage.scratch import clear_leftovers
from quant_core.storage.store import Store
from tasks.cache.result_store import ResultStore
from tasks.cache.shared_files import SharedFiles

__all__ = ["Workspace"]


@dataclass(frozen=True)
class Workspace:
    """A workspace as a machine sees it: nothing but its URL travels from one to another."""

    url: str
    """A local path, or any fsspec URL."""

    @classmethod
    def at(cls, url: str | None) -> Workspace:
        """The workspace of that URL (NARROWCAST_WORKSPACE, or a folder of the user's); see `check`."""
        given = Store(url or default_workspace())
        return cls(str(given.folder.absolute()) if given.folder else given.url)

    def check(self) -> None:
        """Raise InputError unless it can be written to."""
        store = Store(self.url)
        if store.folder is None:
            store.check("workspace")
        usable_folder(self.cache, "workspace")

    def clear_leftovers(self) -> None:
        """Remove what killed runs have left on this machine's disk of files they had not finished."""
        inner = [place for place in self.cache.iterdir() if place.is_dir()]
        results = self.results.place.folder
        for folder in [self.cache, *inner, *([results] if results else [])]:
            clear_leftovers(folder)

    @property
    def results(self) -> ResultStore:
        """Results of steps, by key."""
        return ResultStore(Store(self.url) / "results")

    @property
    def files(self) -> SharedFiles:
        """Model files and data, by digest."""
        return SharedFiles(self.cache, Store(self.url) / "files")

    @property
    def cache(self) -> Path:
        """The folder on this machine where files by digest are: in a local workspace, or beside a remote one."""
        folder = Store(self.url).folder
        name = hashlib.sha256(self.url.encode()).hexdigest()[:32]
        return folder / "files" if folder else default_cache() / "remote" / name

    def machine(self, workers: int) -> Machine:
        """This machine, for a step that may use so many threads."""
        return Machine(self.cache, workers)

    def __str__(self) -> str:
        return str(Store(self.url))
