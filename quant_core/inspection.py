"""What a model holds, before anything is decided: its layers, their costs, and what is left alone."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quant_core.edges import Topology
from quant_core.graph import FloatGraph
from quant_core.layers import layers_from_table
from quant_core.machine import Machine
from quant_core.model_file import refer_model
from quant_core.operators import DEFAULT_LAYER_OPS, Role
from quant_core.prepare import prepare, prepared_graph
from quant_core.tables import facts

__all__ = ["inspect_model"]


def inspect_model(model: str | os.PathLike[str], layer_ops: Sequence[str] = DEFAULT_LAYER_OPS) -> dict[str, Any]:
    """Layers, inputs, outputs, totals and operators left in float, as plain values."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        table = prepare(refer_model(model), tuple(layer_ops), Machine(cache))
        graph = prepared_graph(facts(table)["prepared"], cache)
        layers = table.to_pylist()
        topology = Topology.of(graph, layers_from_table(table))
    return {
        "inputs": [_tensor(graph, name) for name in graph.inputs],
        "outputs": [_tensor(graph, name) for name in graph.outputs],
        "layers": layers,
        "total": {key: sum(layer[key] for layer in layers) for key in ("macs", "weight_bytes")},
        "left_alone": _left_alone(topology),
    }


def _tensor(graph: FloatGraph, name: str) -> dict[str, Any]:
    shape = graph.shape(name)
    return {"name": name, "shape": None if shape is None else list(shape)}


def _left_alone(topology: Topology) -> list[dict[str, Any]]:
    """Operators that stay in float, counted by type, with the reason."""
    found = Counter(
        (f"{node.domain}:{node.op_type}" if node.domain else node.op_type, _reason(topology, index))
        for index, node in enumerate(topology.graph.nodes)
        if topology.roles[index] is Role.FLOAT
    )
    return [{"op": op, "nodes": count, "why": why} for (op, why), count in found.items()]


def _reason(topology: Topology, index: int) -> str:
    node = topology.graph.nodes[index]
    if node.domain not in ("", "ai.onnx"):
        return "an operator of another domain"
    if not any(topology.graph.is_float_activation(name) for name in [*node.input, *node.output]):
        return "does not touch float data"
    return "an operator without a quantized form here"
