"""Data sets: read once from whatever format they come in, then mapped from disk batch by batch."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_core.errors import InputError
from quant_core.execution.progress import watcher
from quant_core.storage.arrays import write_npz
from quant_core.storage.chunks import data_chunks
from quant_core.storage.columns import Column, are_intact, mapped_columns, unpack_columns
from quant_core.storage.data_forms import LABELS, DataForm
from quant_core.storage.mapped import let_go
from quant_core.storage.ragged import RaggedColumn
from quant_core.storage.references import Reference, atomic_folder, refer
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
    "samples_of",
]


class DataReader(Protocol):
    """ONNX Runtime's CalibrationDataReader: hands out batches until there are none."""

    def get_next(self) -> Mapping[str, NDArray[np.generic]] | None:
        """The next batch by input name, or None."""


DataSource = str | Path | Mapping[str, NDArray[np.generic]] | DataReader
"""What Python callers may pass as data: a path or URL, arrays by input name, or a reader."""


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
    starts: NDArray[np.int64] | None = None
    """Where the entries are single steps of sequences: the first one of each sample, and at the end their number."""

    @property
    def count(self) -> int:
        """Number of entries: of samples, or of the steps of all."""
        return len(next(iter(self.columns.values())))

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.count if self.starts is None else len(self.starts) - 1

    def rows_of(self, samples: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers of the entries that samples consist of."""
        if self.starts is None:
            return samples
        return np.concatenate([np.arange(self.starts[one], self.starts[one + 1], dtype=np.intp) for one in samples])

    def begun_by(self, rows: NDArray[np.intp]) -> int:
        """Return how many samples begin with one of these entries."""
        return len(rows) if self.starts is None else int(np.isin(rows, self.starts[:-1]).sum())

    def batch(self, rows: NDArray[np.intp]) -> dict[str, NDArray[np.generic]]:
        """The entries of these numbers, by input name."""
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


def samples_of(column: Column) -> Any:
    """Return what a user's function gets of a column: an array, or a list of arrays where samples differ in shape."""
    return [column.sample(row) for row in range(len(column))] if isinstance(column, RaggedColumn) else column


def refer_data(source: DataSource, cache: Path, form: DataForm | None = None, role: str = "") -> Reference:
    """A reference to the data, and to how they are read; what is only in memory is written to the cache first.

    The `role` of data, such as calibration, is what messages call those in memory.
    """
    if isinstance(source, str | Path):
        return refer(source, form=form)
    folder = cache / "given"
    with scratch_folder(folder) as staging:
        count = 0
        for count, chunk in enumerate(_given_chunks(source), start=1):
            write_npz(staging / f"{count:08d}.npz", chunk)
        if not count:
            raise InputError("the data reader handed out no batch; is it used up?")
        digest = refer(staging).sha256
        if (folder / digest).exists() and refer(folder / digest).sha256 != digest:
            shutil.rmtree(folder / digest)
        with atomic_folder(folder / digest) as final:
            for file in staging.iterdir():
                file.rename(final / file.name)
    return refer(folder / digest, form=form).model_copy(update={"called": f"{role} data".strip()})


def _given_chunks(source: Mapping[str, NDArray[np.generic]] | DataReader) -> Iterable[Mapping[str, ArrayLike]]:
    if isinstance(source, Mapping):
        return [source]
    if hasattr(source, "get_next"):
        return iter(source.get_next, None)
    raise InputError(
        f"data cannot be a {type(source).__name__}: give a path, arrays by input name, or an object with get_next()"
    )


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
    if folder.exists() and not are_intact(folder):
        watcher().warned(f"the unpacked copy of {reference} in the workspace is damaged; it is made again")
        shutil.rmtree(folder)
    if not folder.exists():
        with atomic_folder(folder) as building:
            unpack_columns(data_chunks(reference, cache), str(reference), building)
    columns, constants = mapped_columns(folder)
    labels = columns.pop(LABELS, None)
    if isinstance(labels, RaggedColumn):
        shapes = " and ".join(str(list(shape)) for _, shape in labels.runs[:2])
        raise InputError(f"{reference}: labels have different shapes ({shapes}); pad them to one, or leave them out")
    return Dataset(columns, labels, str(reference), constants)
