"""Arrays that lie on disk, and are mapped into memory where they are read.

A page that was read once counts as this process's memory until the system wants it back. `let_go` gives such pages back
at once, so that memory grows with a batch and not with the data.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import DTypeLike, NDArray

from quant_core.storage.ragged import RaggedColumn

__all__ = ["let_go", "mapped_file", "mapped_stream", "spilled"]

_mapped: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
"""The files that are mapped here, by their address."""
_lock = Lock()
"""Held while a file is added and while they are listed: threads do both at once."""


def mapped_file(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the values of a file, for reading."""
    return _noted(np.memmap(path, np.dtype(dtype), "r", shape=shape))


def spilled(folder: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array of zeros to fill, in a file without a name that is gone with the array."""
    with TemporaryFile(dir=folder) as file:
        file.truncate(math.prod(shape) * np.dtype(dtype).itemsize)
        return mapped_stream(file, dtype, shape)


def mapped_stream(file: IO[bytes], dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the values that were written to a file that is open."""
    file.flush()
    return _noted(np.memmap(file, np.dtype(dtype), "r+", shape=shape)) if math.prod(shape) else np.zeros(shape, dtype)


def _noted(array: np.memmap[Any, Any]) -> NDArray[Any]:
    if isinstance(array.base, mmap.mmap):
        with _lock:
            _mapped[_address(array)] = array.base
    return array


def let_go(column: NDArray[Any] | RaggedColumn) -> None:
    """Give back the pages of the file that values, or what they are a part of, are mapped from; if they are."""
    if not hasattr(mmap, "MADV_DONTNEED"):  # Windows
        return
    address = _address(column.values if isinstance(column, RaggedColumn) else column)
    with _lock:
        known = list(_mapped.items())
    for start, mapping in known:
        if start <= address < start + len(mapping):
            mapping.madvise(mmap.MADV_DONTNEED)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
