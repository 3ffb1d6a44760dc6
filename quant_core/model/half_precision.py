"""Models in float16 or bfloat16: computed in float32 here, and written back in the types they came in.

ONNX Runtime has float16 kernels on some processors and bfloat16 ones on none. In float32 the numbers are the same
everywhere, and every value of the narrower types has its place there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from quant_core.model.graph import FloatGraph, inner_graphs
from quant_core.model.notes import OWN_PREFIX, note, noted
from quant_core.model.stored_model import DATA_FILE, add_constants

__all__ = [
    "HALVES",
    "has_halves",
    "keep_types",
    "rename_tensors",
    "type_attributes",
    "types_given",
    "types_kept",
    "widened",
    "with_float32_ends",
]

HALVES = frozenset([TensorProto.FLOAT16, TensorProto.BFLOAT16])
"""The types that are computed in float32."""

_KEY = f"{OWN_PREFIX}halves"
_TYPE_ATTRIBUTES = frozenset(["to", "dtype", "output_datatype", "stash_type", "softmax_precision"])


def type_attributes(node: onnx.NodeProto) -> Iterator[onnx.AttributeProto]:
    """Attributes of a standard operator whose number is the type of what it computes."""
    if node.domain in ("", "ai.onnx"):
        yield from (entry for entry in node.attribute if entry.name in _TYPE_ATTRIBUTES)


def has_halves(model: onnx.ModelProto) -> bool:
    """Return whether some tensor of a model is in float16 or bfloat16."""
    graphs = list(_graphs(model.graph))
    declared = any(
        value.type.tensor_type.elem_type in HALVES for graph in graphs for value in [*graph.input, *graph.output]
    )
    stored = any(tensor.data_type in HALVES for graph in graphs for tensor in graph.initializer)
    return declared or stored or any(_makes_half(node) for node in _all_nodes(model))


def _makes_half(node: onnx.NodeProto) -> bool:
    return any(entry.t.data_type in HALVES for entry in node.attribute) or any(
        entry.i in HALVES for entry in type_attributes(node)
    )


def types_given(model: onnx.ModelProto) -> dict[str, int]:
    """The tensors of a model that are in float16 or bfloat16, and which: the constants, and what types follow for."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: kind for name, kind in kinds.items() if kind in HALVES}


def keep_types(model: onnx.ModelProto, given: Mapping[str, int]) -> None:
    """Note down in a prepared model which of its tensors the user has in another type than float32."""
    graph = model.graph
    names = [value.name for value in [*graph.input, *graph.value_info, *graph.output]]
    names += [tensor.name for tensor in graph.initializer]
    found = {kind: [name for name in dict.fromkeys(names) if given.get(name) == kind] for kind in sorted(HALVES)}
    if any(found.values()):
        note(model, _KEY, json.dumps(found))


def types_kept(graph: FloatGraph) -> dict[str, int]:
    """The tensors of a prepared model that the user has in float16 or bfloat16, and which."""
    kept = json.loads(noted(graph.model, _KEY) or "{}")
    return {name: int(kind) for kind, names in kept.items() for name in names}


def widened(model: onnx.ModelProto, source: Path, folder: Path) -> onnx.ModelProto:
    """The model in float32.

    Args:
        model: the model; what it has outside itself is as `load_small_weights` leaves it.
        source: the folder that is relative to.
        folder: receives the large constants of the new model.

    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    constants = FloatGraph(model, source)
    del wide.graph.initializer[:]
    with (folder / DATA_FILE).open("wb") as data:
        add_constants(wide, ((t.name, _in_float32(constants.constant(t.name))) for t in model.graph.initializer), data)
    for graph in _graphs(wide.graph):
        _declare_float32([*graph.input, *graph.output])
        del graph.value_info[:]
        if graph is not wide.graph:
            for tensor in graph.initializer:
                _widen(tensor)
    for function in wide.functions:
        del function.value_info[:]
    for node in _all_nodes(wide):
        _compute_in_float32(node)
    return wide


def with_float32_ends(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, taking and giving float32 where it has float16 or bfloat16, with a Cast each."""
    ends = onnx.ModelProto()
    ends.CopyFrom(model)
    graph = ends.graph
    fed = {value.name: value for value in graph.input if value.type.tensor_type.elem_type in HALVES}
    given = {value.name: value for value in graph.output if value.type.tensor_type.elem_type in HALVES}
    taken = {name for node in graph.node for name in [*node.input, *node.output]}
    mark = next(mark for mark in map("~".__mul__, count(1)) if not any(name.endswith(mark) for name in taken))
    for node in graph.node:
        rename_tensors(node, {name: name + mark for name in [*fed, *given]})
    before = [_cast(name, name + mark, value.type.tensor_type.elem_type) for name, value in fed.items()]
    after = [_cast(name + mark, name, TensorProto.FLOAT) for name in given]
    _declare_float32([*fed.values(), *given.values()])
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return ends


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [result], to=kind)  # no name, because its own could be taken


def rename_tensors(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Have a node read and write tensors of other names, in its bodies too."""
    node.output[:] = [names.get(name, name) for name in node.output]
    rename_reads(node, names)


def rename_reads(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Have a node read tensors of other names, in its bodies too, but for what these have of their own."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for body in inner_graphs(node):
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        own |= {name for inner in body.node for name in inner.output}
        outer = {name: other for name, other in names.items() if name not in own}
        for inner in body.node:
            rename_reads(inner, outer)
        for value in body.output:
            value.name = outer.get(value.name, value.name)


def _in_float32(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array.astype(np.float32) if onnx.helper.np_dtype_to_tensor_dtype(array.dtype) in HALVES else array


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in HALVES:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _declare_float32(values: Iterable[onnx.ValueInfoProto]) -> None:
    for value in values:
        kind = value.type
        while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
            kind = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
        if kind.tensor_type.elem_type in HALVES:
            kind.tensor_type.elem_type = TensorProto.FLOAT


def _compute_in_float32(node: onnx.NodeProto) -> None:
    for entry in node.attribute:
        if entry.HasField("t"):
            _widen(entry.t)
    for entry in type_attributes(node):
        if entry.i in HALVES:
            entry.i = TensorProto.FLOAT


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and the bodies of its nodes."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _graphs(inner)


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node
