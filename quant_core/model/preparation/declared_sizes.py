"""Sizes that shapes declare, in the place of operators that ask for them: an If that such a size decides can be folded.

ONNX Runtime folds a Shape only where every size is known: one that is left open, as that of the samples is, hides the
others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["fold_declared_sizes"]

Sizes = Mapping[str, tuple[int | None, ...]]
Constants = Mapping[str, onnx.TensorProto]


def fold_declared_sizes(model: onnx.ModelProto) -> None:
    """Make constants of what a Gather takes out of a Shape, where these sizes are declared or can be inferred."""
    asked = {node.output[0]: node.input[0] for node in model.graph.node if _is_of_all_sizes(node)}
    if not asked:
        return
    sizes, constants = _sizes(onnx.shape_inference.infer_shapes(model).graph), _constants(model.graph)
    for node in model.graph.node:
        found = _taken(node, asked, sizes, constants)
        if found is not None:
            value = onnx.numpy_helper.from_array(found)
            node.CopyFrom(onnx.helper.make_node("Constant", [], node.output, node.name, value=value))


def _is_of_all_sizes(node: onnx.NodeProto) -> bool:
    """Return whether a node is a Shape that leaves no dimension out."""
    return node.op_type == "Shape" and all(entry.name == "start" and entry.i == 0 for entry in node.attribute)


def _sizes(graph: onnx.GraphProto) -> Sizes:
    """Return the declared and the inferred size of every dimension; None for one that is open."""
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in [*graph.input, *graph.value_info]
        if value.type.tensor_type.HasField("shape")
    }


def _constants(graph: onnx.GraphProto) -> Constants:
    """Return the constants of a graph."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            found[node.output[0]] = node.attribute[0].t
    return found


def _taken(
    node: onnx.NodeProto,
    asked: Mapping[str, str],
    sizes: Sizes,
    constants: Constants,
) -> NDArray[np.int64] | None:
    """Return what a node takes out of a shape; None where it does something else, or a size is open."""
    if node.op_type != "Gather" or node.input[0] not in asked or node.input[1] not in constants:
        return None
    shape, places = sizes.get(asked[node.input[0]], ()), onnx.numpy_helper.to_array(constants[node.input[1]])
    if not all(-len(shape) <= place < len(shape) for place in places.flat):
        return None
    found = [shape[place] for place in places.flat]
    return None if None in found else np.array(found, np.int64).reshape(places.shape)
