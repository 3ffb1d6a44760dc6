"""Files of numpy arrays, read in pieces so that no array is ever in memory whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_core.errors import InputError

__all__ = ["npy_columns", "npz_columns", "write_npz"]

_CHUNK_BYTES = 1 << 22
_OBJECTS = (
    "it holds Python objects, which are never unpickled; samples of different shape go in a folder with one .npz each, "
    "in Arrow lists, or in Python in a reader that hands them out one by one"
)


def write_npz(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays of any name as numpy.savez does: its own would take one called `file` for an option."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, given in arrays.items():
            try:
                array = np.asarray(given, order="C")
                if array.dtype.hasobject:
                    raise ValueError(_OBJECTS)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
            except (TypeError, ValueError) as error:
                raise InputError(f"{name} is not an array of numbers: {error}") from error


def npz_columns(path: Path) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield (array, some of its samples) of an .npz archive."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as stream:
                for chunk in _npy_stream(stream):  # type: ignore[arg-type]
                    yield member.removesuffix(".npy"), chunk


def npy_columns(path: Path) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield (name of the file, some samples) of an .npy file."""
    with path.open("rb") as stream:
        for chunk in _npy_stream(stream):
            yield path.stem, chunk


def _npy_stream(stream: BinaryIO) -> Iterator[NDArray[np.generic]]:
    """An .npy stream in chunks of whole samples, so that no array is ever in memory whole."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError(_OBJECTS)
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
