"""What a model holds, before anything is decided: its layers, their costs, and what is left alone."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from quant_core.calibration.float_pass import observed_tensors
from quant_core.execution.machine import Machine
from quant_core.model.graph import FloatGraph, nodes_inside
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.model_file import refer_model
from quant_core.model.operators import DEFAULT_LAYER_OPS, RECURRENT_OPS, Role
from quant_core.model.preparation.class_axis import class_source
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.signature import Signature
from quant_core.model.states import likely_states
from quant_core.model.topology import Topology

__all__ = ["inspect_model"]


def inspect_model(
    model: str | os.PathLike[str], layer_ops: Sequence[str] = DEFAULT_LAYER_OPS, fix_inputs: Sequence[str] = ()
) -> dict[str, Any]:
    """Layers, inputs, outputs, tensors, totals and operators left in float, as plain values.

    `fix_inputs` has inputs with the values that they are fixed at, as `name=value`.

    Counts and bytes are for one sample. For the layers in `open` they are not known, as the model leaves sizes open;
    such a size counts as 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        table = prepare(refer_model(model), tuple(layer_ops), Machine(cache), fix_inputs=tuple(fix_inputs))
        graph = prepared_graph(table, cache)
        layers = table.to_pylist()
        topology = Topology.of(graph, layers_from_table(table))
        return {
            "inputs": [_declared(graph, name) for name in graph.inputs],
            "outputs": [_declared(graph, name) for name in graph.outputs],
            "layers": layers,
            "tensors": _tensors(topology),
            "total": {key: sum(layer[key] for layer in layers) for key in ("macs", "weight_bytes")},
            "left_alone": _left_alone(topology),
            "signature": _signature(graph),
            "axes": _axes(graph),
            "states": [f"{name}={output}" for name, output in likely_states(graph).items()],
            "open": [layer.name for layer in layers_from_table(table) if _is_open(graph, layer)],
        }


def _signature(graph: FloatGraph) -> dict[str, str]:
    """Say what each input and output is, as far as declared shapes tell."""
    found = Signature.of(graph)
    inputs = {role.name: _samples_on(role.axis, "a constant") for role in found.inputs}
    return inputs | {
        role.name: _samples_on(role.axis, "shows on the calibration data") + _classes(graph, role.name)
        for role in found.outputs
    }


def _classes(graph: FloatGraph, name: str) -> str:
    """Return what an output's classes are, in words; empty where what computes it shows none."""
    axis, source = _class_axis(graph, name), class_source(graph, name)
    if axis is None or source is None:
        return ""
    kinds = {"Softmax": "probabilities", "LogSoftmax": "logarithms of probabilities"}
    return f", {kinds.get(source[1], 'logits if these are classes,')} along axis {axis}"


def _class_axis(graph: FloatGraph, name: str) -> int | None:
    source, shape = class_source(graph, name), graph.shape(name)
    return None if source is None or not shape else source[0] % len(shape)


def _axes(graph: FloatGraph) -> dict[str, list[str]]:
    """Return what is found of axes, as the options that say them have it."""
    found = Signature.of(graph)
    axes = [(role.name, role.axis) for role in found.inputs] + [(role.name, role.axis) for role in found.outputs]
    samples = [f"{name}={axis}" for name, axis in axes if axis is not None]
    classes = [f"{name}={axis}" for name in graph.outputs if (axis := _class_axis(graph, name)) is not None]
    return {"sample_axis": samples, "classes": classes}


def _samples_on(axis: int | None, otherwise: str) -> str:
    return otherwise if axis is None else f"samples on axis {axis}"


def _is_open(graph: FloatGraph, layer: Layer) -> bool:
    """Return whether what a layer takes depends on sizes that the model leaves open, those of the samples apart."""
    recurrent = layer.op in RECURRENT_OPS
    names = [*layer.activations, *(graph.nodes[node].output[0] for node in layer.nodes if not recurrent)]
    shapes = [graph.shape(name) for name in names]
    # A recurrent node reads [steps, samples, features]; what others read and write begins with the samples.
    return any(shape is None or None in (shape[:1] if recurrent else shape[1:]) for shape in shapes)


def _declared(graph: FloatGraph, name: str) -> dict[str, Any]:
    shape = graph.shape(name)
    return {
        "name": name,
        "type": onnx.TensorProto.DataType.Name(graph.element_type(name)).lower(),
        "shape": None if shape is None else list(shape),
    }


def _tensors(topology: Topology) -> list[dict[str, Any]]:
    """Everything that is no constant, in graph order: what will carry a type, and why the rest will not."""
    graph, observed = topology.graph, frozenset(observed_tensors(topology))
    return [
        _declared(graph, name)
        | {
            "bytes": _bytes(graph, name),
            "quantized": name in observed,
            "why": None if name in observed else _unquantized(topology, name),
        }
        for name in [*graph.inputs, *graph.producer]
    ]


def _bytes(graph: FloatGraph, name: str) -> int | None:
    shape, kind = graph.shape(name), graph.element_type(name)
    if shape is None or kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return None
    return math.prod(dim or 1 for dim in shape[1:]) * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _unquantized(topology: Topology, name: str) -> str:
    if name in topology.fused:
        return "is computed together with the activation that reads it"
    if not topology.graph.is_float_activation(name):
        return "does not hold float32"
    return "only operators that are left alone touch it"


def _left_alone(topology: Topology) -> list[dict[str, Any]]:
    """Operators that stay in float, counted by type, with the reason; those inside bodies beside their owner."""
    nodes = zip(topology.graph.nodes, topology.roles, strict=True)
    found: Counter[tuple[str, str]] = Counter()
    for node, role in nodes:
        if role is Role.FLOAT:
            found[_spelled(node), _reason(topology, node)] += 1
        for inner in nodes_inside(node):
            found[_spelled(inner), f"is in the body of {node.op_type} {node.name!r}, which is left as it is"] += 1
    return [{"op": op, "nodes": count, "why": why} for (op, why), count in found.items()]


def _spelled(node: onnx.NodeProto) -> str:
    return f"{node.domain}:{node.op_type}" if node.domain else str(node.op_type)


def _reason(topology: Topology, node: onnx.NodeProto) -> str:
    if node.domain not in ("", "ai.onnx"):
        return "an operator of another domain"
    if not any(topology.graph.is_float_activation(name) for name in [*node.input, *node.output]):
        return "does not touch float data"
    return "an operator without a quantized form here"
