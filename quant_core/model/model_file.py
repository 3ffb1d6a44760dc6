"""Reads the file of a float model, and refuses files that are not one."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import fsspec
import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from quant_core.errors import IncompleteError, InputError
from quant_core.model.graph import inner_graphs
from quant_core.model.preparation.negative_sizes import open_negative_sizes, refuse_negative_sizes
from quant_core.model.preparation.sparse_constants import store_densely
from quant_core.model.stored_model import INLINE_BYTES
from quant_core.storage.references import Reference, refer
from quant_core.storage.retry import patiently
from quant_core.urls import is_remote

__all__ = ["follow_links", "load_small_weights", "read_model", "refer_model"]

_QUANTIZED_OPS = frozenset(
    ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"]
)


def refer_model(url: str | os.PathLike[str]) -> Reference:
    """A reference to a model: its digest covers the files its weights are in, where those are not in the model.

    Raises InputError when one of them is missing or the model would have it from outside its folder.
    """
    plain = refer(url)
    try:
        proto = onnx.load_model_from_string(patiently(partial(_content, plain.url), plain.url))
    except (DecodeError, OSError):  # `read_model` says what is wrong
        return plain
    names = sorted({_location(tensor) for tensor in _external(proto.graph)})
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or not name:
            raise InputError(f"{plain}: keeps weights in {name!r}, which is outside the model's folder")
        if not is_remote(plain.url) and _leads_out(Path(plain.url.removeprefix("file://")), name):
            raise InputError(f"{plain}: keeps weights in {name!r}, a link out of the model's folder; put a copy there")
    return refer(url, names) if names else plain


def _content(url: str) -> bytes:
    with fsspec.open(url, "rb") as stream:
        return bytes(stream.read())


def _leads_out(model: Path, name: str) -> bool:
    """Return whether a link, in the file's place or that of a folder on its way, leads out of the model's folder.

    Where the model itself is a link, as in a cache of downloads, the folder of what it leads to counts as well: so
    does ONNX Runtime.
    """
    file = (model.parent / name).resolve()
    return not any(file.is_relative_to(folder) for folder in (model.parent.resolve(), model.resolve().parent))


def _external(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Tensors of the graph, and of graphs inside it, whose values are in another file."""
    return (tensor for tensor in _tensors(graph) if uses_external_data(tensor))


def _location(tensor: onnx.TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def read_model(path: Path, source: str) -> onnx.ModelProto:
    """The model without weights that are in other files; raises InputError unless it is a float ONNX model."""
    if path.is_dir():
        raise InputError(f"{source}: is a folder, not an ONNX model")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise IncompleteError(f"{source}: not an ONNX model: {error}") from error
    if not proto.graph.node or not proto.opset_import:
        raise IncompleteError(f"{source}: not an ONNX model: it holds no graph")
    _refuse_damaged_names(proto.graph, source)
    _refuse_unknown_types(proto, source)
    _refuse_wrong_lengths(proto.graph, source)
    _refuse_odd_inputs(proto, source)
    _refuse_quantized(proto, source)
    try:
        store_densely(proto.graph)
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"{source}: a constant that is stored sparsely cannot be read: {error}") from error
    open_negative_sizes(proto.graph)
    refuse_negative_sizes(proto, source)
    return proto


def _refuse_damaged_names(graph: onnx.GraphProto, source: str) -> None:
    """Refuse names that are no texts, which protobuf hands out as bytes."""
    names = [name for node in graph.node for name in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    names += [named.name for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)]
    damaged: bytes | None = next((name for name in names if isinstance(name, bytes)), None)
    if damaged is not None:
        raise InputError(f"{source}: the name {damaged!r} is not valid text; the file is damaged")


def _refuse_odd_inputs(proto: onnx.ModelProto, source: str) -> None:
    """Refuse inputs that declare no shape, which ONNX does not allow, or one of no values."""
    for value in proto.graph.input:
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            raise InputError(
                f"{source}: input {value.name!r} declares no shape; declare one, whose sizes may be open ([N, 3, H, W])"
            )
        if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim):
            raise InputError(
                f"{source}: input {value.name!r} is declared with a size of 0: no sample fits; give it another"
            )


def _refuse_unknown_types(proto: onnx.ModelProto, source: str) -> None:
    """Refuse types that this release of onnx has no name for: of a damaged file, or one from a later release."""
    graph, known = proto.graph, onnx.TensorProto.DataType.values()
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    values = [*graph.input, *graph.value_info, *graph.output]
    kinds |= {value.name: value.type.tensor_type.elem_type for value in values}
    for name, kind in kinds.items():
        if kind not in known:
            raise InputError(f"{source}: {name!r} is of type {kind}, which onnx {onnx.__version__} does not know")
    given = [
        (value.name, value.type.tensor_type.elem_type) for value in graph.input if value.type.HasField("tensor_type")
    ]
    for name, kind in [*given, *((tensor.name, tensor.data_type) for tensor in graph.initializer)]:
        if kind == onnx.TensorProto.UNDEFINED:
            raise InputError(f"{source}: {name!r} has no type")


def _refuse_wrong_lengths(graph: onnx.GraphProto, source: str) -> None:
    """Refuse constants that hold more or fewer values than their shape and type make."""
    for tensor in _tensors(graph):
        if uses_external_data(tensor) or tensor.data_type not in _SIZED:
            continue
        size, count = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize, math.prod(tensor.dims)
        if min(tensor.dims, default=0) < 0:
            raise InputError(f"{source}: constant {tensor.name!r} has shape {list(tensor.dims)}; the file is damaged")
        if tensor.HasField("raw_data") and len(tensor.raw_data) != count * size:
            raise InputError(
                f"{source}: constant {tensor.name!r} holds {len(tensor.raw_data)} bytes, its shape {list(tensor.dims)} "
                f"and type {onnx.TensorProto.DataType.Name(tensor.data_type).lower()} make {count * size}; "
                "the file is damaged"
            )


_SIZED = frozenset(
    kind
    for name, kind in onnx.TensorProto.DataType.items()
    if name not in ("UNDEFINED", "STRING") and not name.endswith(("INT4", "INT2", "4E2M1"))
)
"""Types of which each value has bytes of its own."""


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the constants of a graph, those that nodes hold, and those of graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t] * attribute.HasField("t")
            yield from attribute.tensors
        for inner in inner_graphs(node):
            yield from _tensors(inner)


def follow_links(proto: onnx.ModelProto, model: Path) -> Path:
    """Name the files of a model's weights by what links lead to; the folder that these names are relative to."""
    tensors = list(_external(proto.graph))
    places = {name: (model.parent / name).resolve() for name in map(_location, tensors)}
    folders = [model.parent.resolve(), model.resolve().parent]
    inside = (folder for folder in folders if all(place.is_relative_to(folder) for place in places.values()))
    folder = next(inside, None) or Path(os.path.commonpath([place.parent for place in places.values()]))
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = places[entry.value].relative_to(folder).as_posix()
    return folder


def load_small_weights(proto: onnx.ModelProto, folder: Path, source: str) -> None:
    """Load what `read_model` left in other files, but for large initializers: those are mapped where they are."""
    large = {tensor.name for tensor in proto.graph.initializer if _external_bytes(tensor) > INLINE_BYTES}
    try:
        for tensor in _external(proto.graph):
            if tensor.name in large:
                _check_length(tensor, folder)
            else:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise IncompleteError(f"{source}: its weights cannot be read: {error}") from error


def _check_length(tensor: onnx.TensorProto, folder: Path) -> None:
    info = onnx.external_data_helper.ExternalDataInfo(tensor)
    end = (info.offset or 0) + (info.length or _external_bytes(tensor))
    if (folder / info.location).stat().st_size < end:
        raise ValueError(f"{info.location} ends before those of {tensor.name}")


def _external_bytes(tensor: onnx.TensorProto) -> int:
    if not uses_external_data(tensor):
        return 0
    return int(math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _refuse_quantized(proto: onnx.ModelProto, source: str) -> None:
    found = Counter(
        node.op_type
        for node in proto.graph.node
        if node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear")
    )
    if found:
        listed = ", ".join(f"{count} {op}" for op, count in found.items())
        raise InputError(f"{source}: already quantized ({listed}); give the float model it was made from")
