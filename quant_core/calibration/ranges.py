"""Which tensors have one scale between them."""

from __future__ import annotations

from collections.abc import Mapping

from quant_core.model.operators import Role, moving_inputs
from quant_core.model.topology import Topology

__all__ = ["range_groups"]


def range_groups(topology: Topology) -> Mapping[str, tuple[str, ...]]:
    """For each float tensor, the tensors whose values its scale is chosen from.

    A mover has the same scale on both sides: all tensors joined by movers share the values of those among
    them that no mover wrote.
    """
    graph = topology.graph
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    moved: set[str] = set()
    for index, node in enumerate(graph.nodes):
        outputs = [name for name in node.output if graph.is_float_activation(name)]
        if topology.roles[index] is Role.MOVER:
            inputs = [node.input[position] for position in moving_inputs(node.op_type, len(node.input))]
            inputs = [name for name in inputs if graph.is_float_activation(name)]
            moved.update(outputs if inputs else ())
            for name in [*inputs[1:], *(outputs if inputs else ())]:
                parent[root(name)] = root(inputs[0])
        for name in outputs:
            root(name)
    for name in graph.inputs:
        root(name)
    sources: dict[str, list[str]] = {}
    for name in parent:
        if name not in moved:
            sources.setdefault(root(name), []).append(name)
    return {name: tuple(sources[root(name)]) for name in parent}
