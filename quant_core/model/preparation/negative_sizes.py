"""Refuses models in which a size works out below zero: a window is larger than what it slides over.

No sample can run such a model, and the shape inference of onnx and ONNX Runtime ends the whole process where a Slice
reads such a tensor. So sizes are inferred here node by node, and looked at before the next node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

from quant_core.errors import InputError
from quant_core.model.graph import inner_graphs, nodes_inside

__all__ = ["open_negative_sizes", "refuse_negative_sizes"]

Types = dict[str, onnx.TypeProto]
Constants = Mapping[str, onnx.TensorProto]

_LARGEST_CONSTANT = 64
"""Values of a constant that may say sizes: starts, pads, shapes. Others are not handed to the inference."""


def open_negative_sizes(graph: onnx.GraphProto) -> None:
    """Leave declared sizes below zero open, in a graph and its bodies: some exporters write -1 for an open one."""
    for value in [*graph.input, *graph.value_info, *graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.Clear()
    for node in graph.node:
        for body in inner_graphs(node):
            open_negative_sizes(body)


def refuse_negative_sizes(model: onnx.ModelProto, source: str) -> None:
    """Raise InputError for an inferred size below zero, where something is sliced; declared sizes are none such."""
    nodes = (inner for node in model.graph.node for inner in (node, *nodes_inside(node)))
    if any(node.op_type == "Slice" for node in nodes):
        _Sizes(model, source).walk(model.graph, {})


class _Sizes:
    """Types of tensors, inferred one node after the other."""

    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._imports, self._ir_version = list(model.opset_import), model.ir_version
        self._source = source

    def walk(self, graph: onnx.GraphProto, around: Types) -> None:
        """Infer the types of a graph and its bodies; those of the tensors around it are known."""
        types, constants = dict(around), _small_constants(graph)
        types |= {value.name: value.type for value in [*graph.input, *graph.value_info]}
        types |= {tensor.name: _type_of(tensor) for tensor in graph.initializer}
        for node in graph.node:
            for body in inner_graphs(node):
                self.walk(body, types)
            for name, kind in self._outputs(node, types, constants).items():
                self._check(node, kind)
                types[name] = kind

    def _check(self, node: onnx.NodeProto, kind: onnx.TypeProto) -> None:
        size = min((dim.dim_value for dim in kind.tensor_type.shape.dim), default=0)
        if size < 0:
            raise InputError(
                f"{self._source}: {node.op_type} {node.name or node.output[0]!r} works out to a size of {size}: its "
                "kernel_shape and dilations are larger than what it reads with its pads"
            )

    def _outputs(self, node: onnx.NodeProto, types: Types, constants: Constants) -> Mapping[str, onnx.TypeProto]:
        """Return the types of what a node writes; nothing where its operator or its inputs are not known."""
        known = {name: types[name] for name in node.input if name in types}
        if len(known) < len({name for name in node.input if name}):
            return {}
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
            given = {name: constants[name] for name in node.input if name in constants}
            found: Mapping[str, onnx.TypeProto] = onnx.shape_inference.infer_node_outputs(
                schema, node, known, given, opset_imports=self._imports, ir_version=self._ir_version
            )
        except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, onnx.checker.ValidationError):
            return {}
        return found


def _small_constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            found[node.output[0]] = node.attribute[0].t
    return {name: tensor for name, tensor in found.items() if math.prod(tensor.dims) <= _LARGEST_CONSTANT}


def _type_of(tensor: onnx.TensorProto) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
