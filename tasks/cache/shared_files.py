"""Model files that steps make, and data they are given, as every machine of a run has them.

Each machine has a folder of files named by their digest. That of a remote workspace mirrors one in the workspace:
what a step makes is uploaded before its result is stored, and fetched by the machine that is handed the result.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from quant_core.errors import InputError
from quant_core.execution.progress import watcher
from quant_core.model.prepared_model import prepared_folder
from quant_core.model.stored_model import MODEL_FILE, ModelFolder
from quant_core.storage.data_forms import RandomForm
from quant_core.storage.references import Reference, refer
from quant_core.storage.store import Store
from quant_core.urls import is_remote

__all__ = ["SharedFiles"]


@dataclass(frozen=True)
class SharedFiles:
    """This machine's files, and where they are for all machines."""

    cache: Path
    """The folder on this machine."""
    place: Store
    """The folder in the workspace; of a local workspace, the same one."""

    def share(self, table: pa.Table) -> None:
        """Upload the model that a result names, whatever is there."""
        for folder in _folders(table) if self._is_mirror else []:
            self.place.upload(folder.name, self.cache / folder.name)

    def share_inputs(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Upload what only this machine may be able to read of the data and models that steps are given."""
        values = (value for step in steps for value in step.values())
        for reference in dict.fromkeys(found for value in values for found in _references(value)):
            self.share_input(reference)

    def share_input(self, reference: Reference) -> None:
        """Upload data or a model that only this machine may be able to read, unless it is there."""
        if is_remote(reference.url) or isinstance(reference.form, RandomForm):
            return
        name, path = f"files/{reference.sha256}", Path(reference.url.removeprefix("file://"))
        there = set(self.place.names(name))
        for file in [path, *(path.with_name(other) for other in reference.beside)]:
            if not there.issuperset(_names(file)):  # also of an upload that was broken off
                self.place.upload(f"{name}/{file.name}", file)

    def bring(self, table: pa.Table) -> None:
        """Fetch the model that a result names, where this machine does not have it whole."""
        for folder in _folders(table) if self._is_mirror else []:
            digest = folder.name.rpartition("/")[2]
            self._bring(folder.name, Path(MODEL_FILE), Reference(url="", sha256=digest, beside=folder.beside))

    def localize(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A step's arguments with everything they name on this machine, and references to where it is here."""
        return {name: self._localize(value) for name, value in arguments.items()}

    def _localize(self, value: Any) -> Any:
        match value:
            case pa.Table():
                self.bring(value)
            case Reference():
                return self._local_reference(value)
            case _ if is_dataclass(value) and not isinstance(value, type):
                found = {field.name: self._localize(getattr(value, field.name)) for field in fields(value)}
                return type(value)(**found)
        return value

    def _local_reference(self, reference: Reference) -> Reference:
        """The reference, by a copy of this machine where what it names is not here."""
        if is_remote(reference.url) or _is_whole(reference):
            return reference
        file = Path(Path(reference.url).name)
        for name in (f"files/{reference.sha256}", f"exported/{reference.sha256}"):
            copy = self._bring(name, file, reference)
            if copy:
                return reference.model_copy(update={"url": str(copy)})
        return reference  # what opens it says what is wrong

    def _bring(self, name: str, file: Path, wanted: Reference) -> Path | None:
        """The file of a folder that is named by its digest, whole on this machine; None when it is nowhere."""
        folder = self.cache / name
        here = wanted.model_copy(update={"url": str(folder / file)})
        if _is_whole(here):
            return folder / file
        if not self._is_mirror:
            return None
        for _ in range(2):
            shutil.rmtree(folder, ignore_errors=True)
            if not self.place.download(name, folder):
                return None
            if _is_whole(here):
                return folder / file
        watcher().warned(f"{self.place}/{name} is damaged")
        shutil.rmtree(folder)
        self.place.remove(name)
        return None

    @property
    def _is_mirror(self) -> bool:
        return self.place.folder != self.cache


def _folders(table: pa.Table) -> list[ModelFolder]:
    """The models a result names."""
    from quant_core.quantization.export import exported_folder  # it takes long, and a run may be refused before

    return [folder for folder in (prepared_folder(table), exported_folder(table)) if folder]


def _names(path: Path) -> list[str]:
    """Return the names of a file, or of the files of a folder, relative to where it lies."""
    inner = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return [file.relative_to(path.parent).as_posix() for file in inner]


def _references(value: Any) -> Iterator[Reference]:
    """Yield what a value refers to, be it in a record."""
    if isinstance(value, Reference):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _references(getattr(value, field.name))


def _is_whole(reference: Reference) -> bool:
    try:
        return refer(reference.url, reference.beside, reference.form).sha256 == reference.sha256
    except InputError:
        return False
