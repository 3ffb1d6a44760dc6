"""Moves biases into the layers that read them: what a layer adds to a channel, the next layers can add instead.

A bias shifts each channel of what a layer writes by a constant. Where that reaches other layers through nothing but
additions and pools, and these see it at every place (they pad nothing), each of them adds what the shift would have
given, in a bias that it has anyway. The first layer then needs none, and no bytes for it. What the model computes
stays as it was, up to rounding; tensors between the layers are shifted, so that calibration comes after it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph, attribute, integer_attribute

__all__ = ["with_absorbed_biases"]

_Values = NDArray[np.float64]

_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "MaxPool")
"""Operators that a shift of a channel passes through: pads of a MaxPool are never the largest."""


def with_absorbed_biases(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return a model without the biases that other layers can add; one of large constants as it is."""
    graph = FloatGraph(model, folder)
    return model if graph.is_large else _Absorption(graph).model()


class _Absorption:
    """What becomes of a graph's biases."""

    def __init__(self, graph: FloatGraph) -> None:
        self.graph = graph
        self._free = set[str]()
        """Tensors that may lack a constant in each channel: all that reads them makes up for it."""
        for node in reversed(graph.nodes):
            self._free.update(name for name in node.output[:1] if self._may_lack(name))
        self._shifts: dict[str, _Values] = {}
        """What each tensor lacks, one value a channel."""

    def model(self) -> onnx.ModelProto:
        """Return the model with biases where they end up."""
        found = onnx.ModelProto()
        found.CopyFrom(self.graph.model)
        changed: dict[str, _Values] = {}
        for index, node in enumerate(self.graph.nodes):
            if self._is_layer(index):
                bias = self._bias(index)
                if node.output[0] in self._free:
                    self._shifts[node.output[0]] = bias
                    del found.graph.node[index].input[2:]
                elif node.input[0] in self._shifts:
                    changed[node.input[2]] = bias
            elif node.output and node.output[0] in self._free:
                lacking = [self._shifts[name] for name in node.input if name in self._shifts]
                if lacking:
                    self._shifts[node.output[0]] = np.sum(lacking, axis=0)
        for tensor in found.graph.initializer:
            if tensor.name in changed:
                values = changed[tensor.name].astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return found

    def _bias(self, index: int) -> _Values:
        """What a layer adds to each channel, with what its input lacks."""
        node = self.graph.nodes[index]
        bias: _Values = np.asarray(self.graph.constant(node.input[2]), np.float64)
        lacking = self._shifts.get(node.input[0])
        if lacking is None:
            return bias
        weight = np.asarray(self.graph.constant(node.input[1]), np.float64)
        if node.op_type == "Gemm":
            return np.asarray(bias + (weight if attribute(node, "transB", 0) else weight.T) @ lacking)
        groups = integer_attribute(node, "group", 1)
        taps = weight.reshape(groups, -1, weight.shape[1], int(np.prod(weight.shape[2:]))).sum(axis=3)
        return np.asarray(bias + np.einsum("goi,gi->go", taps, lacking.reshape(groups, -1)).ravel())

    def _may_lack(self, name: str) -> bool:
        """Return whether a tensor is free, once all that comes behind it is known."""
        places = self.graph.readers.get(name, ())
        outside = name in self.graph.named_outside or self.graph.element_type(name) != onnx.TensorProto.FLOAT
        return bool(places) and not outside and all(self._passes(*place) for place in places)

    def _passes(self, index: int, position: int) -> bool:
        """Return whether a node makes up for what one of its inputs lacks, or hands it on to nodes that do."""
        node = self.graph.nodes[index]
        if node.op_type in ("Conv", "Gemm"):
            return position == 0 and self._is_layer(index) and not _pads(node)
        if node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type == "Add" and self._adds_like(node):
            return node.output[0] in self._free
        return node.op_type in _POOLS and len(node.output) == 1 and node.output[0] in self._free

    def _adds_like(self, node: onnx.NodeProto) -> bool:
        """Return whether an Add has two operands of one shape, so that channels meet channels."""
        first, second = (self.graph.shape(name) for name in node.input)
        alike = first is not None and second is not None and len(first) == len(second) and first[1:] == second[1:]
        return (
            alike and None not in (first or ())[1:] and not any(name in self.graph.initializers for name in node.input)
        )

    def _is_layer(self, index: int) -> bool:
        """Return whether a node is a layer whose bias is its own, a constant with a value for each channel."""
        graph, node = self.graph, self.graph.nodes[index]
        if node.op_type not in ("Conv", "Gemm") or node.domain not in ("", "ai.onnx") or len(node.input) < 3:
            return False
        if any(attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta")) or attribute(node, "transA", 0):
            return False
        weight, bias = node.input[1:3]
        if not (graph.is_float_constant(weight) and graph.is_float_constant(bias)) or len(graph.readers[bias]) != 1:
            return False
        dims = graph.initializers[weight].dims
        channels = dims[0] if node.op_type == "Conv" or attribute(node, "transB", 0) else dims[1]
        return list(graph.initializers[bias].dims) == [channels]


def _pads(node: onnx.NodeProto) -> bool:
    """Return whether a node may read places beside its input, where nothing is lacking."""
    automatic = attribute(node, "auto_pad", b"NOTSET")
    return automatic not in (b"NOTSET", b"VALID") or any(
        entry.name == "pads" and any(entry.ints) for entry in node.attribute
    )
