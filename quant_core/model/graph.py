"""A read-only view of an ONNX graph: who writes and who reads each tensor, its type, its constants."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.notes import OWN_PREFIX, noted

__all__ = [
    "INSIDE",
    "FloatGraph",
    "attribute",
    "free_name",
    "inner_graphs",
    "integer_attribute",
    "nodes_inside",
    "outer_names",
]

INSIDE = f"{OWN_PREFIX}inside"
"""The key of the tensors inside that are compared, in a prepared model: names there by those in the user's, as JSON."""

_LARGE = 1 << 30


@dataclass(frozen=True)
class FloatGraph:
    """The prepared float model, indexed. Nodes are in topological order and uniquely named."""

    model: onnx.ModelProto
    """The model without the bytes of externally stored tensors."""
    folder: Path
    """Where external tensor files are."""
    nodes: tuple[onnx.NodeProto, ...] = field(init=False)
    """The nodes of the main graph."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.model.graph.node))

    @classmethod
    def load(cls, path: Path) -> FloatGraph:
        """Read a model file; tensors stored outside it stay on disk until they are asked for."""
        return cls(onnx.load(path, load_external_data=False), path.parent)

    @cached_property
    def initializers(self) -> Mapping[str, onnx.TensorProto]:
        """Constants by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def is_large(self) -> bool:
        """Whether its constants are too many to be held in memory in float32 for every session that reads them."""
        return sum(_bytes(tensor) for tensor in self.model.graph.initializer) > _LARGE

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs a caller feeds (initializers listed as inputs are not among them)."""
        return tuple(value.name for value in self.model.graph.input if value.name not in self.initializers)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return tuple(value.name for value in self.model.graph.output)

    @cached_property
    def inside(self) -> Mapping[str, str]:
        """The tensors inside that are compared as outputs are, by their names in the user's model.

        For a map that scikit-learn's exporter makes of probabilities (ZipMap) it is the tensor of these.
        """
        maps = (node for node in self.nodes if node.op_type == "ZipMap" and node.output[0] in self.outputs)
        zipped = {node.output[0]: node.input[0] for node in maps if node.input[0] not in self.outputs}
        found: dict[str, str] = zipped | json.loads(noted(self.model, INSIDE) or "{}")
        return found

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """Names of all that may be compared: outputs, and tensors inside."""
        return (*self.outputs, *self.inside.values())

    @cached_property
    def named_outside(self) -> frozenset[str]:
        """Tensors that nodes write and something beyond the nodes knows by name: outputs, what subgraphs read."""
        captured = [name for name, places in self.readers.items() if any(position < 0 for _, position in places)]
        return frozenset([*self.compared, *captured]).intersection(self.producer)

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """Index of the node that writes each tensor."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def readers(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """(node index, input position) of each reader; position -1 is a read from inside a subgraph."""
        found: dict[str, list[tuple[int, int]]] = {}
        for index, node in enumerate(self.nodes):
            for position, name in enumerate(node.input):
                if name:
                    found.setdefault(name, []).append((index, position))
            for name in outer_names(node):
                found.setdefault(name, []).append((index, -1))
        return {name: tuple(places) for name, places in found.items()}

    @cached_property
    def values(self) -> Mapping[str, onnx.ValueInfoProto]:
        """Declared or inferred type of each tensor that is not a constant."""
        graph = self.model.graph
        return {value.name: value for value in [*graph.value_info, *graph.output, *graph.input]}

    def element_type(self, name: str) -> int:
        """The tensor's `onnx.TensorProto.DataType`; UNDEFINED where inference could not tell."""
        if name in self.initializers:
            return int(self.initializers[name].data_type)
        value = self.values.get(name)
        return int(value.type.tensor_type.elem_type) if value is not None else int(onnx.TensorProto.UNDEFINED)

    def is_tensor(self, name: str) -> bool:
        """Return whether it is a tensor, as far as is known: no sequence, map or optional."""
        value = self.values.get(name)
        return value is not None and value.type.HasField("tensor_type") and self.element_type(name) != 0

    def is_float_activation(self, name: str) -> bool:
        """Return whether the tensor holds float32 values that change with the model's input."""
        return bool(name) and name not in self.initializers and self.element_type(name) == onnx.TensorProto.FLOAT

    def is_float_constant(self, name: str) -> bool:
        """Return whether the tensor is a float32 constant."""
        return name in self.initializers and self.element_type(name) == onnx.TensorProto.FLOAT

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Dimensions, None for each dynamic one; None when even the rank is unknown."""
        if name in self.initializers:
            return tuple(self.initializers[name].dims)
        value = self.values.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)

    def constant(self, name: str) -> NDArray[np.generic]:
        """The values of a constant; external ones are mapped from their file, not loaded."""
        tensor = self.initializers[name]
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return onnx.numpy_helper.to_array(tensor)
        info = onnx.external_data_helper.ExternalDataInfo(tensor)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.memmap(
            self.folder / info.location, dtype, mode="r", offset=info.offset or 0, shape=tuple(tensor.dims)
        )


def _bytes(tensor: onnx.TensorProto) -> int:
    if tensor.data_type == onnx.TensorProto.STRING:
        return 0
    return int(math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def outer_names(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors of the enclosing graph that a node's subgraphs (If, Loop, Scan bodies) read, each once."""
    yield from dict.fromkeys(_outer_reads(node))


def _outer_reads(node: onnx.NodeProto) -> Iterator[str]:
    for graph in inner_graphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        read = [name for inner in graph.node for name in [*inner.input, *_outer_reads(inner)] if name]
        read += [value.name for value in graph.output]
        yield from (name for name in read if name not in own)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a node (If, Loop, Scan)."""
    for entry in node.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            yield entry.g
        yield from entry.graphs


def nodes_inside(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a node's bodies, and of bodies in those."""
    for inner in inner_graphs(node):
        for nested in inner.node:
            yield nested
            yield from nodes_inside(nested)


def attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    """The value of a node's attribute, or the default."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def integer_attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return the integer value of a node's attribute, or the default."""
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def free_name(name: str, taken: set[str]) -> str:
    """Return a name that is not `taken`, the given one with underscores behind if need be, and take it."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
