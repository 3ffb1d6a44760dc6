"""Takes out of a written graph what nothing reads once some of its nodes were replaced."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from quant_core.model.graph import outer_names

__all__ = ["keep_used"]

_REMOVED = ("QuantizeLinear", "DequantizeLinear", "Cast")


def keep_used(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Leave in a graph these nodes and the constants they read, without pairs and Casts that nothing reads."""
    read = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if node.op_type not in _REMOVED or node.output[0] in read:
            kept.append(node)
            read |= {*node.input, *outer_names(node)}
    kept.reverse()
    inputs = {value.name for value in graph.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in read or tensor.name in inputs]
    written = read | {name for node in kept for name in node.output}
    values = [value for value in graph.value_info if value.name in written]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(constants)
    graph.value_info.extend(values)
