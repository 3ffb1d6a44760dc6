"""Writes the output folder: the model, its manifest, the tables and the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from quant_core.manifest import Manifest, Output
from quant_core.model.stored_model import DATA_FILE, MODEL_FILE
from quant_core.report.page import report_page
from quant_core.report.sentences.verdict import is_met
from quant_core.results.beside_model import write_beside
from quant_core.results.manifest_file import manifest_json, sealed
from quant_core.results.outcome import OPTIONAL_TABLES, Outcome
from quant_core.results.output_place import MANIFEST, OutputPlace
from quant_core.storage.references import Reference, atomic_copy, atomic_write, fetch, file_digest, made_folder
from quant_core.storage.tables import to_ipc

__all__ = ["output_file", "write_folder"]


def write_folder(
    place: OutputPlace, manifest: Manifest, tables: Mapping[str, pa.Table], file: Reference, cache: Path
) -> Outcome:
    """Write a folder with a model and all that is known of it.

    The manifest is written last: a folder with a manifest is complete.
    """
    folder = made_folder(place.folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    files = {name: to_ipc(table) for name, table in tables.items()}
    manifest = sealed(manifest.model_copy(update={"tables": _digests(files)}))
    page = report_page(manifest, tables)
    path = fetch(file, cache)
    _copy_model(path, file, folder)
    write_beside(folder, str(manifest.config.get("runtime", "reference")), path, tables["layers"], cache)
    atomic_write(folder / "report.html", page.encode())
    _write_tables(folder, files)
    atomic_write(folder / MANIFEST, manifest_json(manifest).encode())
    place.publish()
    return Outcome(folder, manifest.shipped_plan, is_met(manifest), manifest)


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _copy_model(path: Path, file: Reference, folder: Path) -> None:
    """Copy the model and the files beside it, the model last: where it is, all that belongs to it is."""
    if not file.beside:
        (folder / DATA_FILE).unlink(missing_ok=True)
    for name in [*file.beside, MODEL_FILE]:
        atomic_copy(path.with_name(name), folder / name)


def _write_tables(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write each table's file; those that only an earlier run had are removed."""
    for name in OPTIONAL_TABLES:
        (folder / f"{name}.arrow").unlink(missing_ok=True)
    for name, data in files.items():
        atomic_write(folder / f"{name}.arrow", data)


def output_file(file: Reference, cache: Path) -> Output:
    """Return what the manifest says of a model file and of the files beside it."""
    path = fetch(file, cache)
    others = {name: file_digest(path.with_name(name)) for name in file.beside}
    size = sum(one.stat().st_size for one in [path, *map(path.with_name, file.beside)])
    if others:
        return Output(sha256=file_digest(path), bytes=size, external_data=others)
    return Output(sha256=file_digest(path), bytes=size)
