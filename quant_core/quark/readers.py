"""Calibration data as Quark and ONNX Runtime take them: an object that hands out batches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader

from quant_core.errors import InputError
from quant_core.storage.data import DataReader, open_dataset, refer_data

__all__ = ["CalibrationDataReader", "Items", "first_samples", "read_items", "read_path", "replayed", "size"]

Items = list[dict[str, NDArray[np.generic]]]
"""What a reader handed out, item by item."""


class Replay:
    """Hands out items that were read before."""

    def __init__(self, items: Items) -> None:
        self._rest = iter(items)

    def get_next(self) -> Mapping[str, NDArray[np.generic]] | None:
        """The next item, or None."""
        return next(self._rest, None)


def read_items(reader: Any) -> Items:
    """All items of a reader; raises InputError for what is none, and for one that is used up."""
    if not hasattr(reader, "get_next"):
        raise InputError(
            f"calibration_data_reader cannot be a {type(reader).__name__}: give a CalibrationDataReader with get_next()"
        )
    items = [{name: np.asarray(array) for name, array in item.items()} for item in iter(reader.get_next, None)]
    if not items:
        raise InputError("calibration_data_reader handed out no batch; is it used up?")
    return items


def read_path(path: str | os.PathLike[str], cache: Path) -> Items:
    """The data at a path or URL, one item a sample; raises InputError where they cannot be read."""
    data = open_dataset(refer_data(os.fspath(path), cache), cache)
    return [data.batch(np.arange(row, row + 1)) for row in range(data.count)]


def first_samples(items: Items, count: int | None) -> Items:
    """Items of the first `count` samples; all without a count."""
    found: Items = []
    for item in items:
        rest = None if count is None else count - sum(map(size, found))
        if rest is None or rest > 0:
            found.append({name: array[:rest] for name, array in item.items()})
    return found


def size(item: Mapping[str, NDArray[np.generic]]) -> int:
    """Samples in an item."""
    return len(next(iter(item.values())))


def replayed(items: Items) -> DataReader:
    """A reader of items."""
    return Replay(items)
