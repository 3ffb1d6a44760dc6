"""Where a run's output goes: a local folder, or any fsspec URL, to which the finished folder is copied."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from quant_core.errors import InputError
from quant_core.execution.machine import default_cache
from quant_core.storage.references import atomic_copy, atomic_folder
from quant_core.storage.store import Store
from quant_core.urls import is_remote, redacted

__all__ = ["MANIFEST", "OutputPlace"]

MANIFEST = "manifest.json"
"""The file that is written last: a folder with a manifest is complete."""


@dataclass(frozen=True)
class OutputPlace:
    """An output folder."""

    folder: Path
    """The local folder; of a remote one, the copy on this machine."""
    url: str | None = None
    """Where the finished folder is copied to, a URL or a local path; None when it stays where it is."""

    @classmethod
    def at(cls, place: str | os.PathLike[str]) -> OutputPlace:
        """The output folder of a path or URL."""
        text = os.fspath(place)
        if not is_remote(text):
            return cls(Path(text.removeprefix("file://").removeprefix("local://")))
        return cls(default_cache() / "outputs" / hashlib.sha256(text.encode()).hexdigest()[:32], text)

    def publish(self) -> None:
        """Copy the finished folder to its URL, the manifest last, so that no mix of two runs is taken for whole.

        A local folder takes its name when it is complete.
        """
        if self.url is None:
            return
        store = Store(self.url)
        files = sorted(file for file in self.folder.iterdir() if file.is_file() and file.name != MANIFEST)
        if store.folder is not None:
            with atomic_folder(store.folder) as building:
                for file in [*files, self.folder / MANIFEST]:
                    _link_or_copy(file, building / file.name)
            return
        store.remove(MANIFEST)
        for file in [*files, self.folder / MANIFEST]:
            store.upload(file.name, file)

    def fetch(self) -> Path:
        """The folder as it is at its URL, on this machine; raises InputError when there is none."""
        if self.url is None:
            return self.folder
        shutil.rmtree(self.folder, ignore_errors=True)
        if not Store(self.url).download("", self.folder):
            raise InputError(f"{self}: no such folder; give a run's output folder")
        return self.folder

    def check(self) -> None:
        """Raise InputError unless a remote folder can be written to."""
        if self.url is not None and is_remote(self.url):
            Store(self.url).check("output folder")

    def __str__(self) -> str:
        return redacted(self.url) if self.url else str(self.folder)


def _link_or_copy(file: Path, to: Path) -> None:
    """Give a file another name, without writing it again; copy it where that is another file system."""
    try:
        os.link(file, to)
    except OSError:
        atomic_copy(file, to)
