"""Data sets: read once from whatever format they come in, then mapped from disk batch by batch."""

from __future__ import annotations

import json
import math
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import ArrayLike, NDArray

from quant_core.errors import InputError
from quant_core.execution.progress import watcher
from quant_core.storage.mapped import let_go, mapped_file
from quant_core.storage.ragged import RaggedColumn
from quant_core.storage.references import Reference, atomic_folder, fetch, refer
from quant_core.storage.scratch import scratch_folder

__all__ = [
    "LABELS",
    "Column",
    "DataReader",
    "DataSource",
    "Dataset",
    "check_lengths",
    "open_columns",
    "open_dataset",
    "refer_data",
]

LABELS = "labels"
"""The column that holds the right answers instead of a model input."""

_CONTENTS, _SEAL = "columns.json", "sha256"
"""In a folder of unpacked data: what each column is, and the digest of that and of the columns."""

_CHUNK_BYTES = 1 << 22


class DataReader(Protocol):
    """ONNX Runtime's CalibrationDataReader: hands out batches until there are none."""

    def get_next(self) -> Mapping[str, NDArray[np.generic]] | None:
        """The next batch by input name, or None."""


DataSource = str | Path | Mapping[str, NDArray[np.generic]] | DataReader
"""What Python callers may pass as data: a path or URL, arrays by input name, or a reader."""


Column = NDArray[np.generic] | RaggedColumn
"""One entry a sample along the first axis."""


@dataclass(frozen=True)
class Dataset:
    """Arrays with one entry per sample along their first axis, mapped from disk."""

    columns: Mapping[str, Column]
    """Model inputs by name."""
    labels: NDArray[np.generic] | None
    """The right answers, where the data has them."""
    source: str
    """Where the data came from, for messages."""
    constants: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    """Model inputs that have one value for all samples."""

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.columns.values())))

    def batch(self, rows: NDArray[np.intp]) -> dict[str, NDArray[np.generic]]:
        """The samples of these numbers, by input name."""
        found = {name: np.asarray(array[rows]) for name, array in self.columns.items()}
        for column in self.columns.values():
            let_go(column)
        return found

    def in_groups(self, rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Samples that can be stacked: all of the rows, or where samples differ, those of each shape in turn."""
        ragged = [column for column in self.columns.values() if isinstance(column, RaggedColumn)]
        if not ragged:
            return [rows]
        found: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for row in rows:
            found.setdefault(tuple(column.shapes[row] for column in ragged), []).append(int(row))
        return [np.asarray(found[shapes], np.intp) for shapes in sorted(found)]


def refer_data(source: DataSource, cache: Path) -> Reference:
    """A reference to the data; what is only in memory is written to the cache first."""
    if isinstance(source, str | Path):
        return refer(source)
    folder = cache / "given"
    with scratch_folder(folder) as staging:
        count = 0
        for count, chunk in enumerate(_given_chunks(source), start=1):
            _write_npz(staging / f"{count:08d}.npz", chunk)
        if not count:
            raise InputError("the data reader handed out no batch; is it used up?")
        digest = refer(staging).sha256
        if (folder / digest).exists() and refer(folder / digest).sha256 != digest:
            shutil.rmtree(folder / digest)
        with atomic_folder(folder / digest) as final:
            for file in staging.iterdir():
                file.rename(final / file.name)
    return Reference(url=str(folder / digest), sha256=digest)


def _given_chunks(source: Mapping[str, NDArray[np.generic]] | DataReader) -> Iterable[Mapping[str, ArrayLike]]:
    if isinstance(source, Mapping):
        return [source]
    if hasattr(source, "get_next"):
        return iter(source.get_next, None)
    raise InputError(
        f"data cannot be a {type(source).__name__}: give a path, arrays by input name, or an object with get_next()"
    )


def _write_npz(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays of any name as numpy.savez does: its own would take one called `file` for an option."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, given in arrays.items():
            try:
                array = np.asarray(given, order="C")
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
            except (TypeError, ValueError) as error:
                raise InputError(f"{name} is not an array of numbers: {error}") from error


def open_dataset(reference: Reference, cache: Path) -> Dataset:
    """Open referenced data; raises InputError when it cannot be read, is empty, ragged or not finite."""
    dataset = open_columns(reference, cache)
    try:
        _refuse_uneven(dataset)
    except InputError:
        shutil.rmtree(cache / "columns" / reference.sha256, ignore_errors=True)
        raise
    return dataset


def _refuse_uneven(dataset: Dataset) -> None:
    for name, column in dataset.columns.items():
        if isinstance(column, RaggedColumn):
            (count, shape), (_, other), *_ = column.runs
            raise InputError(
                f"{dataset.source}: {name} changes from {column.dtype} {list(shape)} to {column.dtype} {list(other)} "
                f"after {count} samples"
            )
    for name, array in dataset.constants.items():
        raise InputError(f"{dataset.source}: {name} is {array.dtype} of shape (), not an array of numbers")
    check_lengths(dataset)


def check_lengths(dataset: Dataset) -> None:
    """Raise InputError unless all columns and labels have one entry for each sample."""
    counts = {name: len(column) for name, column in dataset.columns.items()}
    counts |= {} if dataset.labels is None else {LABELS: len(dataset.labels)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise InputError(
            f"{dataset.source}: arrays are of different length ({listed}); each needs one entry per sample"
        )


def open_columns(reference: Reference, cache: Path) -> Dataset:
    """Open referenced data of any lengths and shapes; raises InputError when it cannot be read, is empty or not finite.

    Samples of an array may differ in shape; an array without an axis is a constant.
    """
    folder = cache / "columns" / reference.sha256
    if folder.exists() and not _intact(folder):
        watcher().warned(f"the unpacked copy of {reference} in the workspace is damaged; it is made again")
        shutil.rmtree(folder)
    if not folder.exists():
        with atomic_folder(folder) as building:
            _unpack(fetch(reference, cache), reference.url, building)
    entries = json.loads((folder / _CONTENTS).read_text())
    columns = {entry["name"]: _mapped(folder, entry) for entry in entries if entry["shape"]}
    constants = {entry["name"]: np.asarray(_mapped(folder, entry)) for entry in entries if not entry["shape"]}
    labels = columns.pop(LABELS, None)
    if isinstance(labels, RaggedColumn):
        shapes = " and ".join(str(list(shape)) for _, shape in labels.runs[:2])
        raise InputError(f"{reference}: labels have different shapes ({shapes}); pad them to one, or leave them out")
    return Dataset(columns, labels, str(reference), constants)


def _mapped(folder: Path, entry: Mapping[str, Any]) -> Column:
    """A column as it lies on the disk."""
    runs = [(int(count), tuple(shape)) for count, shape in entry.get("runs", ())]
    shape = (sum(count * math.prod(dims) for count, dims in runs),) if runs else tuple(entry["shape"])
    values = mapped_file(folder / entry["file"], entry["dtype"], shape)
    return RaggedColumn(values, runs) if runs else values


def _intact(folder: Path) -> bool:
    """Return whether the unpacked data are as `_unpack` left them."""
    try:
        return (folder / _SEAL).read_text() == refer(folder / _CONTENTS, _column_files(folder)).sha256
    except (InputError, OSError, ValueError, TypeError, KeyError):
        return False


def _column_files(folder: Path) -> list[str]:
    return [str(entry["file"]) for entry in json.loads((folder / _CONTENTS).read_text())]


def _unpack(path: Path, source: str, folder: Path) -> None:
    """Append every chunk of the data to one raw file a column, and describe them in columns.json."""
    columns: dict[str, _Column] = {}
    try:
        for name, chunk in _chunks(path, source):
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


Chunk = tuple[str, NDArray[np.generic]]


def _chunks(path: Path, source: str) -> Iterator[Chunk]:
    """(column, some of its samples) pairs in data order."""
    known = " ".join(sorted(_READERS))
    if not path.is_dir() and path.suffix not in _READERS:
        raise InputError(f"{source}: unknown kind of data; use {known} or a folder of them")
    files = sorted(file for file in path.iterdir() if file.suffix in _READERS) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{source}: the folder holds no {known} file")
    for file in files:
        try:
            yield from _READERS[file.suffix](file)
        except _UNREADABLE as error:
            place = source if file is path else f"{source}: {file.name}"
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{place}: cannot be read as {file.suffix}: {reason[0]}") from error


_UNREADABLE = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException),
    RuntimeError,  # an archive that is encrypted, or compressed in a way Python does not know
    *(SyntaxError, tokenize.TokenError),  # numpy reads the header of an array as Python's source
)


def _npz_chunks(path: Path) -> Iterator[Chunk]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as stream:
                for chunk in _npy_stream(stream):  # type: ignore[arg-type]
                    yield member.removesuffix(".npy"), chunk


def _npy_chunks(path: Path) -> Iterator[Chunk]:
    with path.open("rb") as stream:
        for chunk in _npy_stream(stream):
            yield path.stem, chunk


def _npy_stream(stream: BinaryIO) -> Iterator[NDArray[np.generic]]:
    """An .npy stream in chunks of whole samples, so that no array is ever in memory whole."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError(
            "it holds Python objects, which are never unpickled; samples of different shape go in a folder with one "
            ".npz each, or in Arrow lists"
        )
    if fortran and len(shape) > 1:
        raise ValueError("it is in Fortran order; save it with numpy.ascontiguousarray")
    if not shape:
        data = stream.read(dtype.itemsize)
        yield np.frombuffer(data, dtype, count=1).reshape(())
        return
    if 0 in shape:
        yield np.empty(shape, dtype)
        return
    row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    rows = max(_CHUNK_BYTES // max(row, 1), 1)
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        data = stream.read(count * row)
        if len(data) != count * row:
            raise ValueError(f"it ends after {start} of {shape[0]} samples")
        yield np.frombuffer(data, dtype).reshape(count, *shape[1:])


def _parquet_chunks(path: Path) -> Iterator[Chunk]:
    for batch in pa.parquet.ParquetFile(path).iter_batches(batch_size=256):
        yield from _batch_columns(batch)


def _arrow_chunks(path: Path) -> Iterator[Chunk]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for number in range(reader.num_record_batches):
            yield from _batch_columns(reader.get_batch(number))


def _batch_columns(batch: pa.RecordBatch) -> Iterator[Chunk]:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            raise ValueError(f"column {name} has a null")
        if isinstance(column, pa.FixedShapeTensorArray):
            yield name, column.to_numpy_ndarray()
        elif pa.types.is_fixed_size_list(column.type):
            yield name, column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            yield from ((name, sample) for sample in _listed_samples(column))
        else:
            yield name, column.to_numpy(zero_copy_only=False)


def _listed_samples(column: pa.Array) -> Iterator[NDArray[np.generic]]:
    """Nested lists, which may differ in length, as arrays of one sample each."""
    kind = column.type
    while pa.types.is_nested(kind):
        kind = kind.value_type
    dtype = kind.to_pandas_dtype()
    for sample in column:
        yield np.asarray(sample.as_py(), dtype)[None]


_READERS = {
    ".npz": _npz_chunks,
    ".npy": _npy_chunks,
    ".parquet": _parquet_chunks,
    ".arrow": _arrow_chunks,
}
