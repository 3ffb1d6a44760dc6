"""Which type every edge of the graph carries under a plan.

The rules:
1. A layer demands its own activation type of the tensors it reads; a computation that is none demands the wide one.
   A recurrent layer's states are none of these, and count as a reader left in float does.
2. A mover demands what its output carries, so that values are moved in the type their reader wants.
3. A graph output, and a reader left in float, demand the wide type of a tensor that a quantized node
   reads or writes, and nothing of any other. A recurrent layer writes floats, as a node left in float does. A tensor
   that took no finite value in calibration stays float.
4. A tensor all of whose readers demand one type carries it (one Q/DQ pair). Otherwise it carries the wide
   type, and each reader that demands another gets a pair of its own behind the wide one.
   Float32 is the absence of a pair: a reader that demands it takes what the tensor carries. With dual pairs every
   such tensor carries the wide type, whatever its readers demand.
5. A tensor whose type the plan names carries that type. Its readers take it as it is, but for a layer with a weight
   that computes in another type: it gets a pair of its own behind. What the plan does not name stays as it would
   be, so a mover that writes a named tensor demands the wide type of what it reads.
6. Between a node and the activation (Relu, Clip) that alone reads it there is no tensor: runtimes fuse them. A Relu
   and a Min with one bound a channel are one activation.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import (
    Role,
    is_activation,
    moving_inputs,
    role_of,
    takes_constants,
    weight_inputs,
)
from quant_core.model.selection import is_left_in_float
from quant_core.precision import DataType, Precision, PrecisionPlan

__all__ = ["EdgeTypes", "Topology", "edge_types", "retyped"]


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
    """Tensors between a node and its fused activation (rule 6)."""
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
        """Return whether what a node writes carries a type whoever reads it."""
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


@dataclass(frozen=True)
class EdgeTypes:
    """The types of one plan."""

    base: Mapping[str, DataType]
    """The type each tensor carries; a tensor without an entry stays float."""
    demand: Mapping[tuple[int, int], DataType]
    """The type a reader (node index, input position) wants; without an entry it takes the tensor as it is."""


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
    """Whether a node is the second half of a Clip with one bound a channel: a Min behind a Relu (`equalization`)."""
    node = graph.nodes[index]
    if node.op_type != "Min" or len(node.input) != 2 or not graph.is_float_constant(node.input[1]):
        return False
    dims = list(graph.initializers[node.input[1]].dims)
    return graph.nodes[graph.producer[node.input[0]]].op_type == "Relu" and len(dims) > 1 and math.prod(dims) == dims[1]


def edge_types(topology: Topology, plan: PrecisionPlan, wide: Precision, dual: bool = False) -> EdgeTypes:
    """Apply the rules to a plan, from the graph's outputs back to its inputs; with `dual` pairs if asked for."""
    graph = topology.graph
    precisions, named = dict(plan.layers), dict(plan.tensors)
    base: dict[str, DataType] = {}
    demand: dict[tuple[int, int], DataType] = {}
    for index in range(len(graph.nodes) - 1, -1, -1):
        for name in graph.nodes[index].output:
            _settle(topology, name, topology.writes_types(index), wide.activations, named, base, demand, dual)
        demand.update(_demands(topology, index, precisions, wide.activations, named, base))
    for name in graph.inputs:
        _settle(topology, name, False, wide.activations, named, base, demand, dual)
    return EdgeTypes(base, demand)


def retyped(
    topology: Topology, before: EdgeTypes, plan: PrecisionPlan, wide: Precision, dual: bool, layers: Collection[str]
) -> tuple[EdgeTypes, set[int]]:
    """The types of a plan with some layers narrowed, and the nodes that may have to be written anew for it.

    `before` are the types of the plan with all other layers as they are. Both plans name the same tensors, and none of
    the narrowed layers is in float32, so that no tensor loses its type. The work is that of these layers and of the
    movers in front of them.
    """
    graph, precisions, named = topology.graph, dict(plan.layers), dict(plan.tensors)
    base: ChainMap[str, DataType] = ChainMap({}, dict(before.base))
    demand: ChainMap[tuple[int, int], DataType] = ChainMap({}, dict(before.demand))
    waiting = [-index for index, name in topology.layer_of.items() if name in layers]
    found, done = {-index for index in waiting}, set[int]()
    heapify(waiting)
    while waiting:
        index = -heappop(waiting)
        if index in done:
            continue
        done.add(index)
        for name in graph.nodes[index].output:
            _settle(topology, name, topology.writes_types(index), wide.activations, named, base, demand, dual)
        for place, wanted in _demands(topology, index, precisions, wide.activations, named, base).items():
            if demand.get(place) is not wanted:
                demand[place] = wanted
                found.add(index)
                source = graph.producer.get(graph.nodes[index].input[place[1]])
                if source is not None:
                    heappush(waiting, -source)
    for name in graph.inputs:
        _settle(topology, name, False, wide.activations, named, base, demand, dual)
    for name, kind in base.maps[0].items():
        if before.base.get(name) is not kind:
            found |= {index for index, _ in graph.readers.get(name, ())}
            found |= {graph.producer[name]} if name in graph.producer else set()
    moved = [name for index in found if topology.roles[index] is Role.MOVER for name in graph.nodes[index].output]
    return EdgeTypes(base, demand), found | {index for name in moved for index, _ in graph.readers.get(name, ())}


def _demands(
    topology: Topology,
    index: int,
    precisions: Mapping[str, Precision],
    wide: DataType,
    named: Mapping[str, DataType],
    base: Mapping[str, DataType],
) -> dict[tuple[int, int], DataType]:
    """Return what a node demands of its inputs, once it is known what its outputs carry."""
    found = {}
    for position in topology.quantized_inputs(index):
        own = named.get(topology.graph.nodes[index].input[position])
        if own is not None and not _has_weight(topology, index):
            found[index, position] = own
            continue
        wanted = _demand_of(topology, index, precisions, wide, named, base)
        if wanted is not None:
            found[index, position] = wanted
    return found


def _has_weight(topology: Topology, index: int) -> bool:
    """Return whether a node is a layer with a weight, whose numbers follow from the type it reads."""
    node, is_layer = topology.graph.nodes[index], topology.roles[index] in (Role.LAYER, Role.RECURRENT)
    return is_layer and any(topology.graph.is_float_constant(node.input[at]) for at in weight_inputs(node.op_type))


def _demand_of(
    topology: Topology,
    index: int,
    precisions: Mapping[str, Precision],
    wide: DataType,
    named: Mapping[str, DataType],
    base: Mapping[str, DataType],
) -> DataType | None:
    written = [name for name in topology.graph.nodes[index].output if name]
    if topology.roles[index] is not Role.MOVER:
        wanted = precisions.get(topology.layer_of.get(index, ""))  # None for what the plan leaves out
        return wide if wanted is None else wanted.activations
    if not named.keys().isdisjoint(written):
        return wide
    carried = {base.get(name) for name in written}
    return carried.pop() if len(carried) == 1 else wide


def _settle(
    topology: Topology,
    name: str,
    written_by_quantized: bool,
    wide: DataType,
    named: Mapping[str, DataType],
    base: MutableMapping[str, DataType],
    demand: Mapping[tuple[int, int], DataType],
    dual: bool,
) -> None:
    """Decide what a tensor carries, once all its readers' demands are known."""
    graph = topology.graph
    if name not in topology.quantizable:
        return
    if name in named:
        if named[name] is not DataType.FLOAT32:
            base[name] = named[name]
        return
    readers = graph.readers.get(name, ())
    wanted = [demand.get(place) for place in readers]
    if name in graph.outputs:
        wanted.append(None)
    touched = written_by_quantized or any(kind is not None for kind in wanted)
    kinds = {kind or wide for kind in wanted} if touched else set()
    if not kinds:
        return
    carried = kinds.pop() if len(kinds) == 1 and not dual else wide
    if carried is not DataType.FLOAT32:
        base[name] = carried
