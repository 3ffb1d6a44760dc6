"""Columns of a data set, unpacked: one raw file each, which is mapped from disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.storage.data_forms import LABELS
from quant_core.storage.mapped import mapped_file
from quant_core.storage.ragged import RaggedColumn
from quant_core.storage.references import refer

__all__ = ["Column", "are_intact", "mapped_columns", "unpack_columns"]

Column = NDArray[np.generic] | RaggedColumn
"""One entry a sample along the first axis."""

_CONTENTS, _SEAL = "columns.json", "sha256"
"""In a folder of unpacked data: what each column is, and the digest of that and of the columns."""


def unpack_columns(chunks: Iterable[tuple[str, NDArray[np.generic]]], source: str, folder: Path) -> None:
    """Append every chunk of the data to one raw file a column, and describe them in columns.json."""
    columns: dict[str, _Column] = {}
    try:
        for name, chunk in chunks:
            if name not in columns:
                columns[name] = _Column(name, folder / f"{len(columns)}.bin", source)
            columns[name].append(chunk)
    finally:
        for column in columns.values():
            column.stream.close()
    counts = {name: column.count for name, column in columns.items()}
    if columns and all(column.first is not None for column in columns.values()):
        name, column = next(iter(columns.items()))
        raise InputError(f"{source}: {name} is {column.dtype} of shape (), not an array of numbers")
    if not any(name != LABELS and column.shape is not None for name, column in columns.items()) or 0 in counts.values():
        raise InputError(f"{source}: holds no sample")
    (folder / _CONTENTS).write_text(json.dumps([column.description() for column in columns.values()]))
    (folder / _SEAL).write_text(refer(folder / _CONTENTS, _column_files(folder)).sha256)


def mapped_columns(folder: Path) -> tuple[dict[str, Column], dict[str, NDArray[np.generic]]]:
    """Return the columns as they lie on the disk, and the values that have no samples, by name."""
    entries = json.loads((folder / _CONTENTS).read_text())
    columns = {entry["name"]: _mapped(folder, entry) for entry in entries if entry["shape"]}
    return columns, {entry["name"]: np.asarray(_mapped(folder, entry)) for entry in entries if not entry["shape"]}


def _mapped(folder: Path, entry: Mapping[str, Any]) -> Column:
    runs = [(int(count), tuple(shape)) for count, shape in entry.get("runs", ())]
    shape = (sum(count * math.prod(dims) for count, dims in runs),) if runs else tuple(entry["shape"])
    values = mapped_file(folder / entry["file"], entry["dtype"], shape)
    return RaggedColumn(values, runs) if runs else values


def are_intact(folder: Path) -> bool:
    """Return whether the unpacked data are as `unpack_columns` left them."""
    try:
        return (folder / _SEAL).read_text() == refer(folder / _CONTENTS, _column_files(folder), settled=True).sha256
    except (InputError, OSError, ValueError, TypeError, KeyError):
        return False


def _column_files(folder: Path) -> list[str]:
    return [str(entry["file"]) for entry in json.loads((folder / _CONTENTS).read_text())]


class _Column:
    """One array being written to disk."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source
        self.stream: BinaryIO = path.open("wb")
        self.dtype: np.dtype[Any] | None = None
        self.shape: tuple[int, ...] | None = None
        self.runs: list[tuple[int, tuple[int, ...]]] = []
        self.first: NDArray[np.generic] | None = None
        self.count = 0

    def append(self, chunk: NDArray[np.generic]) -> None:
        scalar = chunk.ndim == 0 and chunk.dtype.kind in "fiub" and self.name != LABELS
        if scalar:
            self._append_constant(chunk)
            return
        if chunk.dtype.kind not in "fiub" or chunk.ndim == 0:
            raise InputError(
                f"{self.source}: {self.name} is {chunk.dtype} of shape {chunk.shape}, not an array of numbers"
            )
        if 0 in chunk.shape[1:]:
            raise InputError(f"{self.source}: {self.name} has shape {list(chunk.shape)}: its samples are empty")
        chunk = chunk.astype(chunk.dtype.newbyteorder("="), copy=False)
        if self.dtype is None:
            self.dtype, self.shape = chunk.dtype, chunk.shape[1:]
        if self.shape is None or (chunk.dtype, chunk.ndim) != (self.dtype, len(self.shape) + 1):
            raise InputError(
                f"{self.source}: {self.name} changes from {self.dtype} {list(self.shape or ())} "
                f"to {chunk.dtype} {list(chunk.shape[1:])} after {self.count} samples"
            )
        if chunk.dtype.kind == "f" and not np.isfinite(chunk).all():
            bad = self.count + int(np.argmin(np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)))
            raise InputError(f"{self.source}: {self.name} has a NaN or infinity in sample {bad}")
        self.stream.write(np.ascontiguousarray(chunk).data)
        self.count += len(chunk)
        if self.runs and self.runs[-1][1] == chunk.shape[1:]:
            self.runs[-1] = (self.runs[-1][0] + len(chunk), chunk.shape[1:])
        else:
            self.runs.append((len(chunk), chunk.shape[1:]))

    def _append_constant(self, value: NDArray[np.generic]) -> None:
        """Take a value for all samples; each file of a folder may repeat it."""
        if self.count and (self.shape is not None or self.first != value or self.dtype != value.dtype):
            raise InputError(f"{self.source}: {self.name} is {value} and {self.first}; a constant has one value")
        if not self.count:
            self.dtype, self.first, self.count = value.dtype, value, 1
            self.stream.write(np.ascontiguousarray(value).data)

    def description(self) -> dict[str, object]:
        found: dict[str, object] = {"name": self.name, "file": self.path.name, "dtype": str(self.dtype)}
        found["shape"] = [] if self.shape is None else [self.count, *self.shape]
        return found | ({"runs": self.runs} if len(self.runs) > 1 else {})
