"""Leaves out activations that cut off what the pair behind them cuts off anyway.

A Relu or a Clip is idle where each of its bounds has the lowest or the highest code of every pair that reads it: what
is beyond a bound then gets the code of the bound, with the node or without it, because a QuantizeLinear is monotone and
saturates. Only pairs of 8 bits count: some runtimes take wider ones out of the graph, and their bounds with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx

from quant_core.model.graph import outer_names
from quant_core.numerics import QParams, quantize
from quant_core.precision import DataType

__all__ = ["without_idle_activations"]

_ACTIVATIONS = ("Relu", "Clip")
_KINDS = {kind.onnx_type: kind for kind in (DataType.INT8, DataType.UINT8)}


def without_idle_activations(graph: onnx.GraphProto) -> None:
    """Take idle activations out of a graph: what read them reads what they read."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ends = {value.name for value in graph.output} | {name for node in graph.node for name in outer_names(node)}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    idle = [
        node
        for node in graph.node
        if node.op_type in _ACTIVATIONS
        and node.output[0] not in ends
        and _is_idle(node, readers.get(node.output[0], []), constants)
    ]
    for node in idle:
        for reader in readers[node.output[0]]:
            reader.input[0] = node.input[0]
        graph.node.remove(node)


def _is_idle(node: onnx.NodeProto, readers: list[onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]) -> bool:
    bounds = _bounds(node, constants)
    found = [_qparams(reader, constants) for reader in readers]
    return bounds is not None and bool(found) and all(one is not None and _saturates(bounds, one) for one in found)


def _bounds(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> tuple[float, float] | None:
    """Return the bounds of an activation; None where they are not known."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    given = [*node.input[1:], "", ""][:2]
    if node.attribute or not all(name in constants for name in given if name):  # attributes: bounds before opset 11
        return None
    low, high = (
        float(onnx.numpy_helper.to_array(constants[name]).item()) if name else none
        for name, none in zip(given, (-math.inf, math.inf), strict=True)
    )
    return (low, high) if low <= high else None


def _qparams(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> QParams | None:
    """Return the numbers of an 8-bit QuantizeLinear of one scale; None for other nodes."""
    if node.op_type != "QuantizeLinear" or len(node.input) < 3 or not all(name in constants for name in node.input[1:]):
        return None
    scale, zero = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:])
    kind = _KINDS.get(constants[node.input[2]].data_type)
    if kind is None or scale.ndim or scale.dtype != np.float32:
        return None
    return QParams(kind, scale, zero.astype(np.int64))


def _saturates(bounds: tuple[float, float], qparams: QParams) -> bool:
    """Return whether the bounds have the lowest and the highest code."""
    return tuple(int(quantize(np.asarray(bound, np.float32), qparams)) for bound in bounds) == qparams.dtype.code_range
