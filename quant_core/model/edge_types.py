"""Which type every edge of the graph carries under a plan.

The rules:
1. A layer demands its own activation type of the tensors it reads; a computation that is none demands the one of
   `others`, which is the wide one or float32. A recurrent layer's states are none of these, and count as a reader
   left in float does.
2. A mover demands what its output carries, so that values are moved in the type their reader wants.
3. A graph output, and a reader left in float, demand the type of `others` of a tensor that a quantized node
   reads or writes, and nothing of any other. A recurrent layer writes floats, as a node left in float does. A tensor
   that took no finite value in calibration stays float.
4. A tensor all of whose readers demand one type carries it (one Q/DQ pair). Otherwise it carries the type of
   `others` if one of them demands that, else the wide one, and each reader that demands another gets a pair of its
   own behind that.
   Float32 is the absence of a pair: a reader that demands it takes what the tensor carries. With dual pairs every
   such tensor carries the wide type, whatever its readers demand.
5. A tensor whose type the plan names carries that type. Its readers take it as it is, but for a layer with a weight
   that computes in another type: it gets a pair of its own behind. What the plan does not name stays as it would
   be, so a mover that writes a named tensor demands the type of `others` of what it reads.
6. Between a node and the activation that is fused into it there is no tensor (see `topology`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TypeVar

from quant_core.model.graph import FloatGraph
from quant_core.model.operators import Role, weight_inputs
from quant_core.model.overlay import Overlay
from quant_core.model.topology import Topology
from quant_core.precision import DataType, Precision, PrecisionPlan

__all__ = ["EdgeTypes", "edge_types", "retyped"]

_Place = TypeVar("_Place")


@dataclass(frozen=True)
class EdgeTypes:
    """The types of one plan."""

    base: Mapping[str, DataType]
    """The type each tensor carries; a tensor without an entry stays float."""
    demand: Mapping[tuple[int, int], DataType]
    """The type a reader (node index, input position) wants; without an entry it takes the tensor as it is."""


def edge_types(
    topology: Topology, plan: PrecisionPlan, wide: Precision, dual: bool = False, others: DataType | None = None
) -> EdgeTypes:
    """Apply the rules to a plan, from the graph's outputs back to its inputs; with `dual` pairs if asked for.

    `others` is the type of what no layer reads; None: the wide one.
    """
    rules = _Rules(topology, plan, wide.activations, dual, others or wide.activations, {}, {})
    for index in range(len(topology.graph.nodes) - 1, -1, -1):
        rules.settle_node(index)
    rules.settle_inputs()
    return EdgeTypes(rules.base, rules.demand)


def retyped(
    topology: Topology,
    before: EdgeTypes,
    plan: PrecisionPlan,
    wide: Precision,
    dual: bool,
    others: DataType,
    layers: Collection[str],
    tensors: Collection[str],
) -> tuple[EdgeTypes, set[int]]:
    """Return the types of a plan that differs in a few places, and the nodes that may have to be written anew for it.

    The work is that of these layers and tensors, and of the movers in front of them.

    Args:
        topology: the roles of the graph's nodes.
        before: the types of another plan.
        plan: the plan.
        wide: the precision of what the plan does not name.
        dual: whether every tensor carries the wide type, too.
        others: the type of what no layer reads.
        layers: names of the layers whose precisions differ.
        tensors: tensors whose types the plans name differently, or one of them alone.

    """
    base, demand, graph = Overlay(before.base), Overlay(before.demand), topology.graph
    rules = _Rules(topology, plan, wide.activations, dual, others, base, demand)
    touched = {index for name in tensors for index in _around(graph, name)}
    changed = _settled_from(touched.union(index for index, name in topology.layer_of.items() if name in layers), rules)
    rules.settle_inputs()
    changed |= {index for name in base.differing for index in _around(graph, name)}
    moved = [name for index in changed if topology.roles[index] is Role.MOVER for name in graph.nodes[index].output]
    return EdgeTypes(base, demand), changed | {index for name in moved for index, _ in graph.readers.get(name, ())}


def _around(graph: FloatGraph, tensor: str) -> set[int]:
    """Return the nodes that read a tensor, and the one that writes it, if one does."""
    source = graph.producer.get(tensor)
    return {index for index, _ in graph.readers.get(tensor, ())} | ({source} if source is not None else set())


def _settled_from(nodes: Collection[int], rules: _Rules) -> set[int]:
    """Settle what some nodes read, and what that changes in front of them; those nodes, and all that demand anew."""
    graph = rules.topology.graph
    waiting = [-index for index in nodes]  # the last node of the graph comes first
    found, done = set(nodes), set[int]()
    heapify(waiting)
    while waiting:
        index = -heappop(waiting)
        if index in done:
            continue
        done.add(index)
        for position in rules.settle_node(index):
            found.add(index)
            source = graph.producer.get(graph.nodes[index].input[position])
            if source is not None:
                heappush(waiting, -source)
    return found


class _Rules:
    """The rules, and the types that are known so far."""

    def __init__(
        self,
        topology: Topology,
        plan: PrecisionPlan,
        wide: DataType,
        dual: bool,
        others: DataType,
        base: MutableMapping[str, DataType],
        demand: MutableMapping[tuple[int, int], DataType],
    ) -> None:
        self.topology = topology
        self.precisions = dict(plan.layers)
        self.named = dict(plan.tensors)
        self.wide = wide
        self.dual = dual
        self.others = others
        self.base = base
        self.demand = demand

    def settle_node(self, index: int) -> list[int]:
        """Decide the types of what a node writes and reads, once all its readers are settled.

        Return the positions of the inputs of which it demands another type than before.
        """
        for name in self.topology.graph.nodes[index].output:
            self._settle(name, self.topology.writes_types(index))
        wanted = {at: self._wanted(index, at) for at in self.topology.quantized_inputs(index)}
        return [at for at, kind in wanted.items() if _put(self.demand, (index, at), kind)]

    def settle_inputs(self) -> None:
        """Decide what the inputs of the graph carry, when all else is decided."""
        for name in self.topology.graph.inputs:
            self._settle(name, False)

    def _settle(self, name: str, written_by_quantized: bool) -> None:
        if name in self.topology.quantizable:
            kind = self.named[name] if name in self.named else self._carried(name, written_by_quantized)
            _put(self.base, name, None if kind is DataType.FLOAT32 else kind)

    def _carried(self, name: str, written_by_quantized: bool) -> DataType | None:
        """Return the type of a tensor that the plan does not name, which follows from its readers."""
        graph = self.topology.graph
        wanted = [self.demand.get(place) for place in graph.readers.get(name, ())]
        if name in graph.outputs:
            wanted.append(None)
        touched = written_by_quantized or any(kind is not None for kind in wanted)
        kinds = {kind or self.others for kind in wanted} if touched else set()
        if len(kinds) == 1 and not self.dual:
            return kinds.pop()
        if not kinds:
            return None
        return self.others if self.others in kinds else self.wide

    def _wanted(self, index: int, position: int) -> DataType | None:
        """Return what a node demands of an input, once it is known what its outputs carry."""
        own = self.named.get(self.topology.graph.nodes[index].input[position])
        return self._demand_of(index) if own is None or self._has_weight(index) else own

    def _has_weight(self, index: int) -> bool:
        """Return whether a node is a layer with a weight, whose numbers follow from the type it reads."""
        graph = self.topology.graph
        node, is_layer = graph.nodes[index], self.topology.roles[index] in (Role.LAYER, Role.RECURRENT)
        return is_layer and any(graph.is_float_constant(node.input[at]) for at in weight_inputs(node.op_type))

    def _demand_of(self, index: int) -> DataType | None:
        written = [name for name in self.topology.graph.nodes[index].output if name]
        if self.topology.roles[index] is not Role.MOVER:
            layer = self.topology.layer_of.get(index)
            if layer is None:
                return self.others
            wanted = self.precisions.get(layer)  # None for what the plan leaves out
            return self.wide if wanted is None else wanted.activations
        if not self.named.keys().isdisjoint(written):
            return self.others
        carried = {self.base.get(name) for name in written}
        return carried.pop() if len(carried) == 1 else self.others


def _put(types: MutableMapping[_Place, DataType], place: _Place, kind: DataType | None) -> bool:
    """Set a type, or remove it; return whether it was another."""
    if types.get(place) is kind:
        return False
    if kind is None:
        del types[place]
    else:
        types[place] = kind
    return True
