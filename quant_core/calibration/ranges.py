"""Which tensors have one scale between them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quant_core.model.graph import FloatGraph, attribute
from quant_core.model.operators import Role, moving_inputs
from quant_core.model.topology import Topology

__all__ = ["range_groups"]


def range_groups(topology: Topology) -> Mapping[str, tuple[str, ...]]:
    """Return the tensors whose values the scale of each float tensor is chosen from.

    A mover has the same scale on both sides: all tensors joined by movers share the values of those among
    them that no mover wrote. A Pad with another value than 0 has a range of its own behind it: what it adds may lie
    far outside of what it moves.
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
            inputs = [name for name in inputs if graph.is_float_activation(name) and not _adds_values(graph, index)]
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


def _adds_values(graph: FloatGraph, index: int) -> bool:
    """Return whether a node is a Pad that adds finite values which its input need not hold."""
    node = graph.nodes[index]
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return False
    value = node.input[2] if len(node.input) > 2 else ""
    if value in graph.initializers:
        return bool(np.any(np.isfinite(found := graph.constant(value)) & (found != 0)))
    given = attribute(node, "value", 0.0)
    return bool(value) or (given != 0.0 and np.isfinite(float(str(given))))
