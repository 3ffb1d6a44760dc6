"""A model in a folder: `model.onnx` and, where that is asked for, its large constants in a file beside it.

Constants go to the file one at a time, and ONNX Runtime and numpy map them from there: no model, however
large, has to be in memory whole. Protobuf ends at 2 GiB, the file beside it does not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.storage.references import made_folder, refer

__all__ = [
    "DATA_FILE",
    "INLINE_BYTES",
    "MODEL_FILE",
    "ModelFolder",
    "add_constants",
    "declared_constant",
    "is_intact",
    "published",
    "write_model",
    "write_variant",
]

MODEL_FILE, DATA_FILE = "model.onnx", "model.onnx.data"

INLINE_BYTES = 1024
"""Constants of up to so many bytes are always in the model itself: shape inference wants to see them."""

_ALIGNMENT = 4096  # what a file can be mapped from


@dataclass(frozen=True)
class ModelFolder:
    """Where a model that a step made is, on every machine."""

    name: str
    """Relative to the machine's cache; ends with the model's digest."""
    beside: tuple[str, ...]
    """The files there beside MODEL_FILE."""


def add_constants(
    model: onnx.ModelProto, constants: Iterable[tuple[str, NDArray[np.generic]]], data: BinaryIO | None
) -> None:
    """Give a model these constants by name: in itself, or the large ones at the end of a DATA_FILE."""
    for name, array in constants:
        if data is None or array.dtype == object or array.nbytes <= INLINE_BYTES:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        else:
            model.graph.initializer.append(_stored(name, array, data))


def _stored(name: str, array: NDArray[np.generic], data: BinaryIO) -> onnx.TensorProto:
    data.write(b"\0" * (-data.tell() % _ALIGNMENT))
    offset = data.tell()
    packed = onnx.helper.np_dtype_to_tensor_dtype(array.dtype) in _PACKED
    data.write(onnx.numpy_helper.from_array(np.asarray(array, order="C")).raw_data if packed else _bytes(array))
    tensor = declared_constant(name, array, DATA_FILE)
    tensor.external_data.add(key="offset", value=str(offset))
    tensor.external_data.add(key="length", value=str(data.tell() - offset))
    return tensor


_PACKED = (onnx.TensorProto.INT2, onnx.TensorProto.UINT2, onnx.TensorProto.INT4, onnx.TensorProto.UINT4)


def _bytes(array: NDArray[np.generic]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def declared_constant(name: str, array: NDArray[np.generic], location: str) -> onnx.TensorProto:
    """The declaration of a constant whose values are somewhere else."""
    tensor = onnx.TensorProto(
        name=name,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=location)
    return tensor


def write_model(model: onnx.ModelProto, folder: Path) -> Path:
    """Write MODEL_FILE, the same bytes for the same model."""
    path = folder / MODEL_FILE
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def published(scratch: Path, stage: Path, beside: Sequence[str] = ()) -> str:
    """Move a finished model to a folder of `stage` named by its digest, which is returned.

    Each file in one step, the model last, and also over files of that name that are damaged.
    """
    digest = refer(scratch / MODEL_FILE, beside).sha256
    folder = made_folder(stage / digest)
    for name in [*beside, MODEL_FILE]:
        (scratch / name).replace(folder / name)
    return digest


def is_intact(stage: Path, digest: str, beside: Sequence[str] = ()) -> bool:
    """Return whether the model of that digest is still there, unchanged."""
    try:
        return refer(stage / digest / MODEL_FILE, beside).sha256 == digest
    except InputError:
        return False


def write_variant(model: onnx.ModelProto, path: Path, folder: Path) -> Path:
    """Write a model that was read from a path and changed into a folder, with the files of its constants; its path."""
    for location in _files_beside(model):
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.parent / location, folder / location)
        except OSError:  # they are on another disk
            shutil.copyfile(path.parent / location, folder / location)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    return folder / MODEL_FILE


def _files_beside(model: onnx.ModelProto) -> Mapping[str, None]:
    """Return where constants are that a model has outside itself."""
    outside = (one for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL)
    entries = (entry for tensor in outside for entry in tensor.external_data)
    return dict.fromkeys(entry.value for entry in entries if entry.key == "location")
