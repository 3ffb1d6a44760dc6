"""Inputs that a user fixes for good: a sample rate, a mode. What depends on them alone is folded, If branches too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.notes import note
from quant_core.model.signature import FIXED
from quant_core.model.stored_model import write_variant
from quant_core.storage.references import made_folder

__all__ = ["fix_given_inputs", "fixed_values", "with_fixed_inputs"]


def fixed_values(model: onnx.ModelProto, texts: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Values of inputs, each given as `name=value` with a number or a JSON list; raises InputError for another text."""
    inputs = {value.name: value for value in model.graph.input}
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in inputs:
            raise InputError(f"fix_inputs: {text!r} must be NAME=VALUE with one of {', '.join(inputs)}")
        tensor = inputs[name].type.tensor_type
        try:
            array = np.asarray(json.loads(value), onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise InputError(
                f"fix_inputs: the value of {name} must be a number or a list of them, not {value!r}"
            ) from error
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        if array.ndim == 0 and all(size in (1, None) for size in dims):
            array = array.reshape([1] * len(dims))
        if len(dims) != array.ndim or any(w not in (None, h) for w, h in zip(dims, array.shape, strict=True)):
            raise InputError(f"fix_inputs: the value of {name} has shape {list(array.shape)}, the model wants {dims}")
        found[name] = array
    return found


def fix_given_inputs(model: onnx.ModelProto, texts: Sequence[str], source: str) -> None:
    """Make constants of inputs, and note their values down in the model; raises InputError as `fixed_values`."""
    if not texts:
        return
    found = fixed_values(model, texts)
    if {value.name for value in model.graph.input} <= {*found, *(tensor.name for tensor in model.graph.initializer)}:
        raise InputError(f"{source}: fix_inputs fixes all inputs; leave one for the data")
    kept = [value for value in model.graph.input if value.name not in found]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in found.items())
    note(model, FIXED, json.dumps(_as_json(found)))


def with_fixed_inputs(path: Path, texts: Sequence[str], folder: Path) -> Path:
    """Return the path of a model file in which those inputs are fixed that it still has: a copy, or the file itself."""
    model = onnx.load(path, load_external_data=False)
    names = {value.name for value in model.graph.input}
    there = [text for text in texts if text.partition("=")[0] in names]
    if not there:
        return path
    fix_given_inputs(model, there, path.name)
    return write_variant(model, path, made_folder(folder))


def _as_json(found: Mapping[str, NDArray[np.generic]]) -> dict[str, tuple[object, str]]:
    return {name: (array.tolist(), str(array.dtype)) for name, array in found.items()}
