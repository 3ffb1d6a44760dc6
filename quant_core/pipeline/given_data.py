"""What a caller gives as data, as references: pictures and random samples are made to the model's measure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import onnx

from quant_core.config import RunConfig
from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph, attribute
from quant_core.model.model_file import read_model
from quant_core.model.preparation.fixed_inputs import fixed_values
from quant_core.model.signature import InputRole
from quant_core.model.states import signature_said
from quant_core.storage.chunks import DATA_FILES, is_table
from quant_core.storage.data_forms import LABELS, ColumnForm, DataForm, PictureForm, PixelType, RandomForm, RandomInput
from quant_core.storage.pictures import are_pictures
from quant_core.storage.references import Reference, fetch

__all__ = ["RANDOM", "check_used", "data_form"]

RANDOM = "random"
"""Given in place of data: random samples."""

_PIXEL_TYPES: Mapping[int, PixelType] = {
    int(onnx.TensorProto.FLOAT): "float32",
    int(onnx.TensorProto.BFLOAT16): "float32",
    int(onnx.TensorProto.FLOAT16): "float16",
    int(onnx.TensorProto.DOUBLE): "float64",
    int(onnx.TensorProto.UINT8): "uint8",
}
_FOLLOWED = frozenset(["Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Transpose"])
"""Operators whose output holds the very values of their input."""


def data_form(model: Reference, source: object, config: RunConfig, seed: int, cache: Path) -> DataForm | None:
    """Return how one of a run's data is read; None for arrays and what Python callers hold in memory.

    `seed` tells the random samples of one role from those of another. Raises InputError where the model has no input
    for pictures, or leaves open what pictures or random samples need.
    """
    if isinstance(source, str | Path) and str(source) == RANDOM:
        return _random_form(_graph(model, cache), model.url, config, seed)
    if isinstance(source, str | Path) and _are_pictures(str(source), config):
        return _picture_form(_graph(model, cache), model.url, config)
    types = _integer_types(_graph(model, cache)) if isinstance(source, str | Path) and is_table(str(source)) else ()
    return ColumnForm(labels=config.label_column, types=types) if types or config.label_column != LABELS else None


_OF_PICTURES = ("image_size", "image_crop", "mean", "std")
_OF_RANDOM = ("random_samples", "random_sizes", "random_range")


def check_used(forms: Iterable[DataForm | None], config: RunConfig) -> None:
    """Raise InputError for options of pictures, or of random samples, where no data are such."""
    kinds = {type(form) for form in forms}
    for names, kind, what in ((_OF_PICTURES, PictureForm, "pictures"), (_OF_RANDOM, RandomForm, "random samples")):
        said = [name for name in names if getattr(config, name) != type(config).model_fields[name].default]
        if said and kind not in kinds:
            raise InputError(f"{said[0]}: is for {what}, and none of the data are; leave it out")


def _are_pictures(source: str, config: RunConfig) -> bool:
    """Return whether data are pictures, or a table of which the user says so."""
    try:
        if are_pictures(source, DATA_FILES):
            return True
    except (OSError, ValueError, ImportError):
        return False  # whoever reads the data says what is wrong
    return config.image_size is not None and not source.endswith((".npz", ".npy"))


def _integer_types(graph: FloatGraph) -> tuple[tuple[str, str], ...]:
    """Return the inputs that take integers, each with its type."""
    known = [name for name in graph.inputs if graph.is_tensor(name)]
    kinds = {name: onnx.helper.tensor_dtype_to_np_dtype(graph.element_type(name)) for name in known}
    return tuple((name, kind.name) for name, kind in kinds.items() if kind.kind in "iu")


def _graph(model: Reference, cache: Path) -> FloatGraph:
    path = fetch(model, cache)
    return FloatGraph(read_model(path, model.url), path.parent)


def _open_inputs(graph: FloatGraph, config: RunConfig) -> list[str]:
    """Return the inputs that data are for."""
    fixed = fixed_values(graph.model, config.fix_inputs_of(graph.inputs))
    return [name for name in graph.inputs if name not in fixed]


def _picture_form(graph: FloatGraph, source: str, config: RunConfig) -> PictureForm:
    names = _open_inputs(graph, config)
    if len(names) != 1:
        raise InputError(
            f"{source}: has {len(names)} inputs ({', '.join(names)}), and pictures are for one: fix others with --set, "
            "or give arrays"
        )
    shape, kind = graph.shape(names[0]), graph.element_type(names[0])
    if kind not in _PIXEL_TYPES:
        raise InputError(f"{source}: input {names[0]} cannot take pictures: its type is {_type_name(kind)}")
    channels, last = _layout(names[0], shape, source)
    height, width = _picture_size(names[0], (shape or ())[1:3] if last else (shape or ())[2:4], source, config)
    if kind == onnx.TensorProto.UINT8 and (config.mean or config.std):
        raise InputError(f"mean, std: input {names[0]} takes the pixels as they are, of type uint8; leave them out")
    return PictureForm(
        labels=config.label_column,
        input=names[0],
        type=_PIXEL_TYPES[kind],
        channels=1 if channels == 1 else 3,
        channels_last=last,
        height=height,
        width=width,
        crop=config.image_crop,
        mean=_per_channel("mean", config.mean or (0.0,), channels),
        std=_per_channel("std", config.std or (1.0,), channels),
    )


def _type_name(kind: int) -> str:
    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def _layout(name: str, shape: Sequence[int | None] | None, source: str) -> tuple[int, bool]:
    """Return the number of channels, and whether their axis is the last one."""
    first, last = (shape[1] in (1, 3), shape[3] in (1, 3)) if shape is not None and len(shape) == 4 else (False, False)
    if first == last:
        spelled = "unknown" if shape is None else f"[{', '.join(str(dim or 'any') for dim in shape)}]"
        raise InputError(
            f"{source}: input {name} has shape {spelled}, not that of pictures: four axes, of which the second (NCHW) "
            "or the last (NHWC) has 1 or 3 channels; give arrays"
        )
    return int((shape or ())[3 if last else 1] or 0), last


def _picture_size(name: str, wanted: Sequence[int | None], source: str, config: RunConfig) -> tuple[int, int]:
    """Return height and width; raises InputError where they are not given, or the model wants others."""
    if config.image_size is None:
        if wanted[0] and wanted[1]:
            return wanted[0], wanted[1]
        raise InputError(f"{source}: input {name} takes pictures of any size; give one with --image-size")
    height, _, width = config.image_size.partition("x")
    said = int(height), int(width or height)
    if any(model not in (None, given) for model, given in zip(wanted, said, strict=True)):
        theirs = "x".join(str(size or "any") for size in wanted)
        raise InputError(f"image_size: is {said[0]}x{said[1]}, and input {name} of {source} wants {theirs}")
    return said


def _per_channel(option: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise InputError(f"{option}: has {len(values)} numbers, and the model's pictures have {channels} channels")
    return values


def _random_form(graph: FloatGraph, source: str, config: RunConfig, seed: int) -> RandomForm:
    signature = signature_said(graph, config.sample_axis, config.classes, config.states)
    names = _open_inputs(graph, config)
    sizes = _said(config.random_sizes, "random_sizes")
    ranges = {name: _range(name, text, names) for name, text in _said(config.random_range, "random_range").items()}
    roles = [role for role in signature.inputs if role.name in names and role.state is None]
    steps = _steps(sizes, source) if signature.states else ()
    inputs = tuple(_random_input(graph, role, source, sizes, ranges, steps) for role in roles)
    if unused := sizes.keys() - _sizes_asked(graph, roles) - ({_STEPS} if signature.states else set()):
        raise InputError(f"random_sizes: no input of {source} leaves open {', '.join(sorted(unused))}")
    return RandomForm(inputs=inputs, count=config.random_samples, seed=seed)


_STEPS = "steps"
"""What the number of steps of sequences is called where sizes are said."""


def _steps(sizes: Mapping[str, str], source: str) -> tuple[int]:
    text = sizes.get(_STEPS, "")
    if not text.isdecimal() or not int(text):
        raise InputError(f"{source}: has states; give the steps of a sample with --random-sizes {_STEPS}=NUMBER")
    return (int(text),)


def _said(texts: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise InputError(f"{option}: {text!r} must be NAME=VALUE")
        found[name] = value
    return found


def _range(name: str, text: str, names: Sequence[str]) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low, high = 1.0, 0.0
    if name not in names or not low <= high or not math.isfinite(high - low):
        raise InputError(f"random_range: '{name}={text}' must be INPUT=LOW:HIGH with one of {', '.join(names)}")
    return low, high


def _random_input(
    graph: FloatGraph,
    role: InputRole,
    source: str,
    sizes: Mapping[str, str],
    ranges: Mapping[str, tuple[float, float]],
    steps: tuple[int, ...],
) -> RandomInput:
    kind, shape = graph.element_type(role.name), graph.shape(role.name)
    if shape is None or kind in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        raise InputError(f"{source}: input {role.name} has no shape or holds no numbers; random samples cannot be made")
    inner = tuple(_dim(graph, role.name, axis, sizes, source) for axis in range(len(shape)) if axis != role.axis)
    dims = inner if role.axis is None else (*steps, *inner)
    # What no data file holds is fed in float32, and rounded on the way.
    dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.FLOAT if kind == onnx.TensorProto.BFLOAT16 else kind)
    low, high = ranges.get(role.name) or ((None, None) if dtype.kind == "f" else (0.0, _largest(graph, role.name)))
    return RandomInput(
        name=role.name, type=dtype.name, shape=dims, constant=role.axis is None or not shape, low=low, high=high
    )


def _axis_name(graph: FloatGraph, name: str, axis: int) -> str:
    """Return what an open size is called: its symbol, or the input and the axis."""
    return graph.values[name].type.tensor_type.shape.dim[axis].dim_param or f"{name}:{axis}"


def _sizes_asked(graph: FloatGraph, roles: Iterable[InputRole]) -> set[str]:
    return {
        called
        for role in roles
        for axis, dim in enumerate(graph.shape(role.name) or ())
        if dim is None and axis != role.axis
        for called in (_axis_name(graph, role.name, axis), f"{role.name}:{axis}")
    }


def _dim(graph: FloatGraph, name: str, axis: int, sizes: Mapping[str, str], source: str) -> int:
    declared = (graph.shape(name) or ())[axis]
    if declared is not None:
        return declared
    called = _axis_name(graph, name, axis)
    text = sizes.get(f"{name}:{axis}", sizes.get(called, ""))
    if not text:
        raise InputError(f"{source}: input {name} leaves a size open; give it with --random-sizes {called}=SIZE")
    if not text.isdecimal() or not int(text):
        raise InputError(f"random_sizes: {called}={text} must be a size of at least 1")
    return int(text)


def _largest(graph: FloatGraph, name: str) -> float:
    """Return the largest index into the tables that integers of an input index; 1 where there is none."""
    rows = list(_tables(graph, name, set()))
    return float(max(min(rows) - 1, 0)) if rows else 1.0


def _tables(graph: FloatGraph, name: str, seen: set[str]) -> Iterator[int]:
    """Yield the number of rows of each constant that a Gather takes rows of by these values."""
    for index, place in graph.readers.get(name, ()):
        node = graph.nodes[index]
        if node.op_type == "Gather" and place == 1 and node.input[0] in graph.initializers:
            yield int(graph.initializers[node.input[0]].dims[cast("int", attribute(node, "axis", 0))])
        elif node.op_type in _FOLLOWED and place == 0 and node.output[0] not in seen:
            seen.add(node.output[0])
            yield from _tables(graph, node.output[0], seen)
