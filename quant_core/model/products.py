"""Multiply-accumulates of operators, from the shapes of their tensors.

What a layer takes is priced by its precision; what other operators take is the same for every plan, and belongs to
the totals all the same (see `other_products`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import onnx
from onnx.helper import make_graph, make_model, make_tensor_value_info

from quant_core.model.graph import FloatGraph, attribute, inner_graphs, integer_attribute, outer_names

__all__ = ["Shapes", "node_products"]

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name; what has no entry is not known."""


def node_products(graph: FloatGraph, node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """Return the multiply-accumulates of a node for tensors of these shapes; None where they cannot be known."""
    if node.op_type == "If":
        return _largest_branch(graph, node, shapes)
    return _products(node, shapes)


def _products(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    count = _COUNTED.get(node.op_type)
    try:
        if count is not None:
            return count(node, shapes)
    except (KeyError, IndexError, ValueError):  # a shape that is not known, or not what the operator wants
        return None
    inner = [_products(one, shapes) for body in inner_graphs(node) for one in body.node]
    return None if any(inner) or None in inner or _may_multiply(node, shapes) else 0


def _may_multiply(node: onnx.NodeProto, shapes: Shapes) -> bool:
    """Return whether an operator that is not known here may well multiply matrices."""
    return node.domain not in ("", "ai.onnx") and any(word in node.op_type for word in ("Attention", "MatMul", "Conv"))


def _convolution(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every weight meets each position of the output once."""
    written = shapes[node.output[0]]
    return math.prod(shapes[node.input[1]]) * math.prod(written[2:]) * written[0]


def _quantized_convolution(node: onnx.NodeProto, shapes: Shapes) -> int:
    written = shapes[node.output[0]]
    return math.prod(shapes[node.input[3]]) * math.prod(written[2:]) * written[0]


def _transposed_convolution(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every weight meets each position of the input once."""
    read = shapes[node.input[0]]
    return math.prod(shapes[node.input[1]]) * math.prod(read[2:]) * read[0]


def _matrix_product(node: onnx.NodeProto, shapes: Shapes) -> int:
    left = shapes[node.input[0]]
    turned = attribute(node, "transA", 0) and len(left) > 1
    return math.prod(shapes[node.output[0]]) * left[-2 if turned else -1]


def _block_weights(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every step of every sequence meets all weights, those of the input and those of the state, once."""
    steps = math.prod(shapes[node.input[0]][:2])
    return steps * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))


def _attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    """ONNX's, or ONNX Runtime's with the projection of queries, keys and values inside."""
    if node.domain not in ("", "ai.onnx"):
        batch, steps, _ = shapes[node.input[0]]
        weight = shapes[node.input[1]]
        return batch * steps * math.prod(weight) + 2 * batch * steps * steps * weight[1] // 3
    if "" in node.input[:3] or len([name for name in node.input if name]) > 4:
        raise ValueError("keys of former steps")
    query, key, value = (shapes[name] for name in node.input[:3])
    if len(query) == 4:
        return math.prod(query[:3]) * key[2] * (query[3] + value[3])
    return _heads(query, key, value, integer_attribute(node, "q_num_heads", 1),
                  integer_attribute(node, "kv_num_heads", 1))  # fmt: skip


def _heads(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], queries: int, values: int) -> int:
    """Scores and weighed values of attention on [batch, steps, heads x width]; several queries may share a value."""
    return query[0] * query[1] * key[1] * (query[2] + value[2] // values * queries)


def _multi_head(node: onnx.NodeProto, shapes: Shapes) -> int:
    query, key, value = (shapes[name] for name in node.input[:3])
    return _heads(query, key, value, 1, 1)


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every index of two operands or more meets every other once."""
    if len(node.input) < 2:
        return 0
    equation = attribute(node, "equation", b"")
    if not isinstance(equation, bytes):
        raise ValueError("an equation that is no text")
    terms = equation.decode().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        sizes.update(zip(term, shapes[name], strict=True))
    return math.prod(sizes.values())


_COUNTED: Mapping[str, Callable[[onnx.NodeProto, Shapes], int]] = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "DeformConv"), _convolution),
    "QLinearConv": _quantized_convolution,
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul"), _matrix_product),
    **dict.fromkeys(("MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), _matrix_product),
    "QLinearMatMul": _matrix_product,
    "MatMulNBits": _block_weights,
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    "Attention": _attention,
    "MultiHeadAttention": _multi_head,
    "Einsum": _einsum,
}
"""Operators that multiply, by type. A Loop or Scan whose body does is not known: it has no fixed number of rounds."""


def _largest_branch(graph: FloatGraph, node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """The multiply-accumulates of the branch of an If that takes the most; None where one is not known."""
    found = [_body_products(graph, body, node, shapes) for body in inner_graphs(node)]
    known = [count for count in found if count is not None]
    return max(known, default=0) if len(known) == len(found) else None


def _body_products(graph: FloatGraph, body: onnx.GraphProto, owner: onnx.NodeProto, shapes: Shapes) -> int | None:
    inside = {**shapes, **_inferred(graph, body, owner, shapes)}
    counts = [node_products(graph, node, inside) for node in body.node]
    return None if None in counts else sum(filter(None, counts))


def _inferred(
    graph: FloatGraph, body: onnx.GraphProto, owner: onnx.NodeProto, shapes: Shapes
) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a body, given those around it."""
    outer = [name for name in outer_names(owner) if name not in graph.initializers and name in shapes]
    constants = [graph.initializers[name] for name in outer_names(owner) if name in graph.initializers]
    small = [tensor for tensor in constants if tensor.data_location != onnx.TensorProto.EXTERNAL]
    large = [tensor for tensor in constants if tensor.data_location == onnx.TensorProto.EXTERNAL]
    values = [make_tensor_value_info(name, graph.element_type(name), shapes[name]) for name in outer]
    values += [make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in large]
    alone = make_graph(body.node, "body", values, body.output, [*small, *body.initializer])
    model = onnx.shape_inference.infer_shapes(make_model(alone, opset_imports=graph.model.opset_import), data_prop=True)
    found = {tensor.name: tuple(tensor.dims) for tensor in [*constants, *body.initializer]}
    return found | dict(_known_shapes([*model.graph.value_info, *model.graph.output]))


def _known_shapes(values: Iterable[onnx.ValueInfoProto]) -> Iterable[tuple[str, tuple[int, ...]]]:
    for value in values:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            yield value.name, tuple(dim.dim_value for dim in dims)
