"""What the nodes of a graph are to quantization, whatever the plan: the part each plays, and what is fused.

Between a node and the activation (Relu, Clip) that alone reads it there is no tensor: runtimes fuse them. A Relu and a
Min with one bound a channel are one activation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import (
    Role,
    is_activation,
    moving_inputs,
    role_of,
    takes_constants,
)
from quant_core.model.selection import is_left_in_float

__all__ = ["Topology"]


@dataclass(frozen=True)
class Topology:
    """What does not depend on the plan: each node's role, and the tensors that are fused away."""

    graph: FloatGraph
    """The prepared float model."""
    layer_of: Mapping[int, str]
    """Layer name by node index."""
    roles: tuple[Role, ...]
    """Role of each node; a fused activation has the role of a computation."""
    fused: frozenset[str]
    """Tensors between a node and its fused activation."""
    quantizable: frozenset[str]
    """Tensors that may carry a type: those a scale can be chosen for."""

    @classmethod
    def of(cls, graph: FloatGraph, layers: Sequence[Layer], observed: Iterable[str] | None = None) -> Topology:
        """Read the roles off the graph; only the given layers are layers, only observed tensors (all) get a type."""
        if observed is None:
            observed = [name for name in [*graph.inputs, *graph.producer] if graph.is_float_activation(name)]
        layer_of = {index: layer.name for layer in layers for index in layer.nodes}
        layer_ops = frozenset(graph.nodes[index].op_type for index in layer_of)
        left = _left_in_float(graph)
        roles = [
            Role.FLOAT if index in left else role_of(node.op_type, node.domain, layer_ops)
            for index, node in enumerate(graph.nodes)
        ]
        roles = [
            Role.FLOAT if role in (Role.LAYER, Role.RECURRENT) and index not in layer_of else role
            for index, role in enumerate(roles)
        ]
        fused = set()
        for index, node in enumerate(graph.nodes):
            source = graph.producer.get(node.input[0]) if node.input else None
            if (
                source is not None
                and index not in left
                and (is_activation(node.op_type) or _bounds_channels(graph, index))
                and roles[source] in (Role.LAYER, Role.COMPUTE)
                and node.input[0] not in graph.outputs
                and len(graph.readers[node.input[0]]) == 1
            ):
                fused.add(node.input[0])
                roles[index] = Role.COMPUTE
        return cls(graph, layer_of, tuple(roles), frozenset(fused), frozenset(observed) - fused)

    def takes_constants(self, index: int) -> bool:
        """Return whether a node's constant operands are values like its other operand, to be quantized as it is."""
        node = self.graph.nodes[index]
        bound = node.op_type == "Min" and node.input[0] in self.fused
        return self.roles[index] is Role.COMPUTE and takes_constants(node.op_type) and not bound

    def writes_types(self, index: int) -> bool:
        """Return whether what a node writes carries a type, whatever its readers are."""
        return self.roles[index] not in (Role.FLOAT, Role.RECURRENT)

    def touched(self, index: int) -> list[str]:
        """Tensors and constants that a node reads or writes in a type; of a recurrent layer no states and results."""
        node, role = self.graph.nodes[index], self.roles[index]
        if role is Role.RECURRENT:
            return list(node.input[:3])
        return [] if role is Role.FLOAT else [*node.input, *node.output]

    def quantized_inputs(self, index: int) -> list[int]:
        """Positions of a node's inputs that can carry a type."""
        node, role = self.graph.nodes[index], self.roles[index]
        if role is Role.FLOAT:
            return []
        if role is Role.MOVER:
            positions = moving_inputs(node.op_type, len(node.input))
        else:
            positions = range({Role.LAYER: 2, Role.RECURRENT: 1}.get(role, len(node.input)))
        return [
            position
            for position in positions
            if position < len(node.input) and node.input[position] in self.quantizable
        ]


def _left_in_float(graph: FloatGraph) -> frozenset[int]:
    """Nodes that the user leaves in float, and those that only move what such nodes write."""
    left: set[int] = set()
    for index, node in enumerate(graph.nodes):
        moves = role_of(node.op_type, node.domain, frozenset()) is Role.MOVER
        moved = [node.input[position] for position in moving_inputs(node.op_type, len(node.input))] if moves else []
        if is_left_in_float(node) or (moved and all(graph.producer.get(name) in left for name in moved)):
            left.add(index)
    return frozenset(left)


def _bounds_channels(graph: FloatGraph, index: int) -> bool:
    """Return whether a node is the Min behind a Relu that bounds each channel: half a Clip, made by `equalization`."""
    node = graph.nodes[index]
    if node.op_type != "Min" or len(node.input) != 2 or not graph.is_float_constant(node.input[1]):
        return False
    dims = list(graph.initializers[node.input[1]].dims)
    return graph.nodes[graph.producer[node.input[0]]].op_type == "Relu" and len(dims) > 1 and math.prod(dims) == dims[1]
