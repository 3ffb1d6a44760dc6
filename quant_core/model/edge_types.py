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

from collections import ChainMap
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from quant_core.model.operators import Role, weight_inputs
from quant_core.model.topology import Topology
from quant_core.precision import DataType, Precision, PrecisionPlan

__all__ = ["EdgeTypes", "edge_types", "retyped"]


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
        rules.settle_outputs(index)
        rules.demand.update(rules.demands_of(index))
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
) -> tuple[EdgeTypes, set[int]]:
    """Return the types of a plan with some layers narrowed, and the nodes that may have to be written anew for it.

    Both plans name the same tensors, and none of the narrowed layers is in float32, so that no tensor loses its type.
    The work is that of these layers and of the movers in front of them.

    Args:
        topology: the roles of the graph's nodes.
        before: the types of the plan with all other layers as they are.
        plan: the plan.
        wide: the precision of what the plan does not name.
        dual: whether every tensor carries the wide type, too.
        others: the type of what no layer reads.
        layers: names of the narrowed layers.

    """
    base: ChainMap[str, DataType] = ChainMap({}, dict(before.base))
    demand: ChainMap[tuple[int, int], DataType] = ChainMap({}, dict(before.demand))
    rules = _Rules(topology, plan, wide.activations, dual, others, base, demand)
    changed = _settled_from([index for index, name in topology.layer_of.items() if name in layers], rules)
    rules.settle_inputs()
    graph = topology.graph
    for name, kind in base.maps[0].items():
        if before.base.get(name) is not kind:
            changed |= {index for index, _ in graph.readers.get(name, ())}
            changed |= {graph.producer[name]} if name in graph.producer else set()
    moved = [name for index in changed if topology.roles[index] is Role.MOVER for name in graph.nodes[index].output]
    return EdgeTypes(base, demand), changed | {index for name in moved for index, _ in graph.readers.get(name, ())}


def _settled_from(layers: Collection[int], rules: _Rules) -> set[int]:
    """Settle what some layers read, and what that changes in front of them; those nodes, and all that demand anew."""
    graph = rules.topology.graph
    waiting = [-index for index in layers]  # the last node of the graph comes first
    found, done = set(layers), set[int]()
    heapify(waiting)
    while waiting:
        index = -heappop(waiting)
        if index in done:
            continue
        done.add(index)
        rules.settle_outputs(index)
        for place, wanted in rules.demands_of(index).items():
            if rules.demand.get(place) is not wanted:
                rules.demand[place] = wanted
                found.add(index)
                source = graph.producer.get(graph.nodes[index].input[place[1]])
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

    def settle_outputs(self, index: int) -> None:
        """Decide what a node's outputs carry, once it is known what all their readers demand."""
        for name in self.topology.graph.nodes[index].output:
            self._settle(name, self.topology.writes_types(index))

    def settle_inputs(self) -> None:
        """Decide what the inputs of the graph carry, when all else is decided."""
        for name in self.topology.graph.inputs:
            self._settle(name, False)

    def _settle(self, name: str, written_by_quantized: bool) -> None:
        graph = self.topology.graph
        if name not in self.topology.quantizable:
            return
        if name in self.named:
            if self.named[name] is not DataType.FLOAT32:
                self.base[name] = self.named[name]
            return
        wanted = [self.demand.get(place) for place in graph.readers.get(name, ())]
        if name in graph.outputs:
            wanted.append(None)
        touched = written_by_quantized or any(kind is not None for kind in wanted)
        kinds = {kind or self.others for kind in wanted} if touched else set()
        if not kinds:
            return
        carried = self.others if self.others in kinds else self.wide
        if len(kinds) == 1 and not self.dual:
            carried = kinds.pop()
        if carried is not DataType.FLOAT32:
            self.base[name] = carried

    def demands_of(self, index: int) -> dict[tuple[int, int], DataType]:
        """Return what a node demands of its inputs, once it is known what its outputs carry."""
        found = {}
        for position in self.topology.quantized_inputs(index):
            own = self.named.get(self.topology.graph.nodes[index].input[position])
            wanted = self._demand_of(index) if own is None or self._has_weight(index) else own
            if wanted is not None:
                found[index, position] = wanted
        return found

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
