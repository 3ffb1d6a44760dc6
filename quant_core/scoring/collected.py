"""Outputs of all samples, written to disk batch by batch: they may be larger than memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from quant_core.storage.data import Column
from quant_core.storage.mapped import let_go, mapped_stream, spilled
from quant_core.storage.ragged import RaggedColumn

__all__ = ["collected"]

Array = NDArray[np.generic]
Rows = NDArray[np.intp]


def collected(
    parts: Iterable[tuple[Rows, Mapping[str, Array]]], names: Sequence[str], folder: Path
) -> dict[str, Column]:
    """Return each output over all samples, in the order of the data; ragged where samples differ in shape.

    Args:
        parts: numbers of the samples of a batch, and its outputs by name, one entry a sample.
        names: of the outputs.
        folder: where files without a name are made for them, which are gone with the arrays.

    """
    with ExitStack() as files:
        outputs = {name: _Output(files.enter_context(TemporaryFile(dir=folder))) for name in names}
        for rows, found in parts:
            for name in names:
                outputs[name].add(rows, found[name])
        return {name: output.whole(folder) for name, output in outputs.items()}


class _Output:
    """One output, in the order in which batches come."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._texts: list[Array] = []  # what has no fixed size stays in memory
        self._rows: list[int] = []
        self._shapes: list[tuple[int, ...]] = []
        self._dtype: np.dtype[np.generic] = np.dtype(np.float32)

    def add(self, rows: Rows, found: Array) -> None:
        """Take the values of some samples."""
        self._rows += rows.tolist()
        self._shapes += [found.shape[1:]] * len(rows)
        self._dtype = found.dtype
        if found.dtype.hasobject:
            self._texts.append(found.ravel())
        else:
            self._file.write(np.ascontiguousarray(found).data)

    def whole(self, folder: Path) -> Column:
        """Return the values in the order of the samples."""
        sizes = [math.prod(shape) for shape in self._shapes]
        written = (
            mapped_stream(self._file, self._dtype, (sum(sizes),)) if not self._texts else np.concatenate(self._texts)
        )
        order = sorted(range(len(self._rows)), key=self._rows.__getitem__)
        if order != list(range(len(order))):
            written = _reordered(written, order, sizes, folder)
        if len(set(self._shapes)) == 1:
            return written.reshape(len(order), *self._shapes[0])
        return RaggedColumn(written, [(1, self._shapes[at]) for at in order])


def _reordered(written: Array, order: Sequence[int], sizes: Sequence[int], folder: Path) -> Array:
    """Return the values of the samples in another order."""
    starts = np.cumsum([0, *sizes])
    found = np.empty_like(written) if written.dtype.hasobject else spilled(folder, written.dtype, written.shape)
    end = 0
    for at in order:
        found[end : end + sizes[at]] = written[starts[at] : starts[at + 1]]
        end += sizes[at]
    let_go(written)
    let_go(found)
    return found
