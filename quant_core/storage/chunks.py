"""Data in whatever form they come: (column, some of its samples) pairs, in the order of the samples."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from quant_core.errors import InputError, first_line
from quant_core.storage.arrays import npy_columns, npz_columns
from quant_core.storage.arrow_tables import arrow_columns, parquet_columns, saved_files
from quant_core.storage.data_forms import LABELS, ColumnForm, DataForm, PictureForm, RandomForm
from quant_core.storage.pictures import are_pictures, picture_columns
from quant_core.storage.random_samples import random_columns
from quant_core.storage.references import Reference, fetch

__all__ = ["DATA_FILES", "data_chunks", "is_table"]

Chunk = tuple[str, NDArray[np.generic]]

_ARRAYS = {".npz": npz_columns, ".npy": npy_columns}
_TABLES = {".parquet": parquet_columns, ".arrow": arrow_columns}

DATA_FILES = (*_ARRAYS, *_TABLES)
"""Ends of names of files of arrays."""

_UNREADABLE = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException),
    RuntimeError,  # an archive that is encrypted, or compressed in a way Python does not know
    *(SyntaxError, tokenize.TokenError),  # numpy reads the header of an array as Python's source
)


def data_chunks(reference: Reference, cache: Path) -> Iterator[Chunk]:
    """Yield (column, some of its samples) in data order; raises InputError for what cannot be read."""
    form, source = reference.form, str(reference)
    if isinstance(form, RandomForm):
        return random_columns(form)
    path = fetch(reference, cache)
    if isinstance(form, PictureForm) and are_pictures(str(path), DATA_FILES):
        return picture_columns(path, source, form)
    chunks = _file_chunks(path, source, form)
    return _as_said(chunks, source, form) if isinstance(form, ColumnForm) else chunks


def is_table(url: str) -> bool:
    """Return whether a path or URL is an Arrow or Parquet file, or a folder with one; False where it is not there."""
    try:
        files, path = url_to_fs(url)
        names = files.ls(path, detail=False) if files.isdir(path) else [path]
    except (OSError, ValueError, ImportError):
        return False
    return any(str(name).endswith(tuple(_TABLES)) for name in names)


def _as_said(chunks: Iterator[Chunk], source: str, form: ColumnForm) -> Iterator[Chunk]:
    """Name one column as the labels, and widen integers; a column named as the labels that is none is passed over."""
    seen: dict[str, None] = {}
    types = dict(form.types)
    for name, chunk in chunks:
        seen[name] = None
        if name == form.labels:
            yield LABELS, chunk
        elif name != LABELS:
            wider = types.get(name, chunk.dtype)
            yield name, chunk.astype(wider) if chunk.dtype.kind in "iu" and np.can_cast(chunk.dtype, wider) else chunk
    if form.labels not in (LABELS, *seen):
        raise InputError(f"{source}: has no column {form.labels!r} for the labels; it has {', '.join(seen)}")


def _file_chunks(path: Path, source: str, form: DataForm | None) -> Iterator[Chunk]:
    for file in _files(path, source):
        place = source if file is path else f"{source}: {file.name}"
        try:
            if file.suffix in _TABLES:
                yield from _TABLES[file.suffix](file, place, form)
            elif isinstance(form, PictureForm):
                raise InputError(f"{place}: holds arrays, not pictures; leave out the options for pictures")
            else:
                yield from _ARRAYS[file.suffix](file)
        except _UNREADABLE as error:
            raise InputError(f"{place}: cannot be read as {file.suffix}: {first_line(error)}") from error


def _files(path: Path, source: str) -> list[Path]:
    """Return the files of the data, in order."""
    known = " ".join(sorted(DATA_FILES))
    if not path.is_dir() and path.suffix not in DATA_FILES:
        raise InputError(f"{source}: unknown kind of data; use {known} or a folder of them")
    saved = saved_files(path, source) if path.is_dir() else None
    files = saved or (sorted(file for file in path.iterdir() if file.suffix in DATA_FILES) if path.is_dir() else [path])
    if not files:
        raise InputError(f"{source}: the folder holds no {known} file")
    return files
