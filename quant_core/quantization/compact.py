"""Makes a written model take fewer bytes: the same nodes and numbers, with short names.

In a small file much of what a plan adds is names: a scale has that of the tensor it belongs to, and is named by both
nodes of a pair. All that the float model names keeps its name.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

import onnx

from quant_core.model.graph import outer_names

__all__ = ["compacted"]


def compacted(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Return a model with short names for tensors, and none for nodes, whose names are not among those `kept`.

    Declarations of tensors inside the graph are left out: shape inference finds what they say.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    del graph.value_info[:]
    names = _short_names(graph, kept)
    for node in graph.node:
        if node.name not in kept:
            node.ClearField("name")
        for field in (node.input, node.output):
            short = [names.get(name, name) for name in field]
            del field[:]
            field.extend(short)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return found


def _short_names(graph: onnx.GraphProto, kept: Collection[str]) -> dict[str, str]:
    """Return short names for the tensors of a graph: not for its inputs and outputs, nor for what subgraphs read."""
    ends = {value.name for value in (*graph.input, *graph.output)}
    known = {*kept, *ends, *(name for node in graph.node for name in outer_names(node))}
    free = (name for name in map("q{}".format, count()) if name not in known)
    named = dict.fromkeys(name for node in graph.node for name in (*node.input, *node.output) if name)
    return {name: next(free) for name in named if name not in known}
