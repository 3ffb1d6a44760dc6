"""Writes the float part of a quantized model in the types that the user's model has: float16, bfloat16.

1. Inputs and outputs have their types, so that the file goes where the float model was.
2. A node computes in float16 if all it reads and writes was in float16 and no pair touches it. One in bfloat16 computes
   in float32, for which ONNX Runtime has kernels; so does one with bodies (If, Loop, Scan).
3. A constant that stays float is stored in its type.
4. Where a tensor goes from one type to the other there is a Cast. Pairs are in float32: their scales are too small
   for float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from quant_core.model.graph import FloatGraph, inner_graphs, outer_names
from quant_core.model.half_precision import rename_tensors, type_attributes, types_kept
from quant_core.model.opset import opset_of
from quant_core.model.sessions import Constants
from quant_core.quantization.plan_graph.made_names import names_taken

__all__ = ["in_given_types", "with_given_ends"]


def with_given_ends(values: Iterable[onnx.ValueInfoProto], graph: FloatGraph) -> list[onnx.ValueInfoProto]:
    """Declarations of inputs or outputs, in the types that the user's model has."""
    kinds, found = types_kept(graph), []
    for value in values:
        given = onnx.ValueInfoProto()
        given.CopyFrom(value)
        if value.name in kinds:
            given.type.tensor_type.elem_type = kinds[value.name]
        found.append(given)
    return found


def in_given_types(
    graph: FloatGraph, nodes: Sequence[onnx.NodeProto], constants: Constants
) -> tuple[Sequence[onnx.NodeProto], Constants]:
    """The nodes of a written plan with the float part in the user's types, and their constants beside the graph's."""
    kinds = types_kept(graph)
    if not kinds:
        return nodes, constants
    added = frozenset(name for node in nodes for name in node.output)
    typing = _Typing(graph, kinds, _GivenConstants(graph, constants), added=added)
    return typing.typed(nodes), typing.constants


@dataclass(frozen=True)
class _GivenConstants(Mapping[str, NDArray[np.generic]]):
    """The constants of a plan, and constants of the float graph in another type, each converted when asked for."""

    graph: FloatGraph
    plan: Constants
    stored: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The graph's constant and the type, by the name it has in that."""

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        if name not in self.stored:
            return self.plan[name]
        source, kind = self.stored[name]
        return np.asarray(self.graph.constant(source)).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))

    def __iter__(self) -> Iterator[str]:
        yield from self.plan
        yield from self.stored

    def __len__(self) -> int:
        return len(self.plan) + len(self.stored)


@dataclass
class _Typing:
    """One pass over the nodes."""

    graph: FloatGraph
    kinds: Mapping[str, int]
    """The types that the user's model has."""
    constants: _GivenConstants
    """Of the plan, and those that are stored in another type."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    """Written so far."""
    narrow: set[str] = field(default_factory=set)
    """Tensors whose own name is that of values in the user's type."""
    added: frozenset[str] = frozenset()
    """Names of tensors that the plan adds to the graph's."""
    written: set[str] = field(default_factory=set)
    """Results of Casts."""

    def typed(self, nodes: Sequence[onnx.NodeProto]) -> Sequence[onnx.NodeProto]:
        """The nodes with the float ones in their types, and Casts between."""
        self.narrow |= {name for name in self.graph.inputs if name in self.kinds}
        captured = {name for node in nodes for name in outer_names(node)}
        for node in nodes:
            if self.computes_in_float16(node) and captured.isdisjoint(node.output):
                self.write_in_float16(node)
            else:
                self.write_in_float32(node)
        for name in self.graph.outputs:
            if name in self.kinds and name not in self.narrow:
                self.cast(self.wide(name), name, self.kinds[name])
        return self.nodes

    def computes_in_float16(self, node: onnx.NodeProto) -> bool:
        """Return whether a node reads and writes nothing but what was in float16, or is no float."""
        named = [name for name in [*node.input, *node.output] if name]
        if any(True for _ in inner_graphs(node)) or any(self.graph.element_type(name) == 0 for name in named):
            return False  # element type 0 is that of a sequence, and of what the plan adds to the graph
        floats = [name for name in named if self.graph.is_float_activation(name)]
        held = [name for position, name in enumerate(node.input) if self.is_converted(node, position)]
        return (
            bool(floats)
            and all(self.kinds.get(name) == TensorProto.FLOAT16 for name in floats)
            and all(_fits(self.graph.constant(name)) for name in held)
        )

    def is_converted(self, node: onnx.NodeProto, position: int) -> bool:
        """Return whether a node in float16 reads a constant in float16 too; the scales of a Resize stay float32."""
        name = node.input[position]
        if not self.graph.is_float_constant(name):
            return False
        if node.domain not in ("", "ai.onnx"):
            return name in self.kinds
        inputs = onnx.defs.get_schema(node.op_type, opset_of(self.graph.model)).inputs
        return "tensor(float16)" in inputs[min(position, len(inputs) - 1)].types

    def write_in_float16(self, node: onnx.NodeProto) -> None:
        typed = onnx.NodeProto()
        typed.CopyFrom(node)
        typed.input[:] = [self.half(node, position) for position in range(len(node.input))]
        for entry in type_attributes(typed):
            if entry.i == TensorProto.FLOAT and entry.name in ("to", "dtype"):
                entry.i = TensorProto.FLOAT16
        for entry in typed.attribute:
            if entry.t.data_type == TensorProto.FLOAT:
                entry.t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(entry.t).astype(np.float16)))
        self.nodes.append(typed)
        self.narrow |= {name for name in node.output if self.kinds.get(name) == TensorProto.FLOAT16}

    def write_in_float32(self, node: onnx.NodeProto) -> None:
        renamed = {name: self.wide(name) for name in [*node.input, *outer_names(node), *node.output] if name}
        if any(name != other for name, other in renamed.items()):
            typed = onnx.NodeProto()
            typed.CopyFrom(node)
            rename_tensors(typed, renamed)
            node = typed
        self.nodes.append(node)

    def half(self, node: onnx.NodeProto, position: int) -> str:
        """Return what a node in float16 reads at a position: the tensor's own name, or that of a Cast behind it."""
        name = str(node.input[position])
        if self.graph.is_float_constant(name):
            return self.stored(name, TensorProto.FLOAT16) if self.is_converted(node, position) else name
        if name in self.narrow or not self.graph.is_float_activation(name):
            return name
        return self.cast(self.wide(name), self.free(f"{name}/float16"), TensorProto.FLOAT16)

    def wide(self, name: str) -> str:
        """The tensor in float32: its own name, or that of a Cast behind it; an output's values have another name."""
        kind = self.kinds.get(name)
        if kind is None:
            return name
        if self.graph.is_float_constant(name):
            return self.cast(self.stored(name, kind), self.free(f"{name}/float32"), TensorProto.FLOAT)
        if name in self.narrow:
            return self.cast(name, self.free(f"{name}/float32"), TensorProto.FLOAT)
        return self.free(f"{name}/float32") if name in self.graph.outputs else name

    def stored(self, name: str, kind: int) -> str:
        """The name of a constant of the graph in another type."""
        result = self.free(f"{name}/{TensorProto.DataType.Name(kind).lower()}/stored")
        self.constants.stored[result] = name, kind
        return result

    def cast(self, source: str, result: str, kind: int) -> str:
        """Write a Cast, once."""
        if result not in self.written:
            self.written.add(result)
            self.nodes.append(onnx.helper.make_node("Cast", [source], [result], name=f"{result}/Cast", to=kind))
        return result

    def free(self, name: str) -> str:
        """Return a name that neither the graph nor the plan has, the same for the same."""
        while name in self.taken or name in self.constants.plan:
            name += "~"
        return name

    @cached_property
    def taken(self) -> frozenset[str]:
        """Names of the graph's tensors and nodes, and of what the plan adds to them."""
        return names_taken(self.graph) | self.added


def _fits(array: NDArray[np.generic]) -> bool:
    """Return whether float16 holds what values float32 has, as closely as it does any."""
    return bool((np.abs(array) <= np.finfo(np.float16).max).all()) if array.size else True
