"""A model whose weights in blocks are those of ONNX Runtime's own operator MatMulNBits.

It dequantizes a block when it multiplies with it, where a DequantizeLinear writes the whole weight out on every run. At
accuracy level 1 it computes in float32, as the DequantizeLinear and the product do; at level 4, which a default session
takes where it fuses the two itself, it would round what it reads to int8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.graph import attribute
from quant_core.model.opset import RUNTIME_DOMAIN
from quant_core.quantization.half_scales import half_scales
from quant_core.quantization.runtime_operators.replaced_nodes import keep_used
from quant_core.runtimes.written_model import StoredTensor, WrittenLayer, WrittenModel

__all__ = ["with_block_operators"]

_BLOCKS = (16, 256)
"""The smallest and the largest that the operator takes."""

_ACCURACY = 1
"""float32."""

Codes = NDArray[np.uint8]


def with_block_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a MatMulNBits for each MatMul and Gemm of floats with a weight in blocks."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    layers = {layer.node.name: layer for layer in WrittenModel(model).products if _is_taken(layer)}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        layer = layers.get(node.name)
        nodes.extend([node] if layer is None else _block_nodes(layer, changed.graph))
    keep_used(changed.graph, nodes)
    if layers and all(entry.domain != RUNTIME_DOMAIN for entry in changed.opset_import):
        changed.opset_import.add(domain=RUNTIME_DOMAIN, version=1)
    return changed


def _is_taken(layer: WrittenLayer) -> bool:
    """Return whether the operator computes what a layer does."""
    weight, node = layer.weight, layer.node
    if weight is None or weight.codes is None or weight.kind.bits not in (4, 8) or layer.has_8_bit_input:
        return False
    scaled = any(attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta")) or attribute(node, "transA", 0)
    is_matrix = weight.codes.ndim == 2 or (weight.codes.ndim == 3 and len(weight.codes) == 1)
    return is_matrix and not scaled and _BLOCKS[0] <= weight.block <= _BLOCKS[1]


def _block_nodes(layer: WrittenLayer, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The operator for a layer, and an Add for its bias; its constants go into the graph."""
    node, weight = layer.node, layer.weight
    assert weight is not None and weight.codes is not None and weight.scale is not None  # see _is_taken
    by_output = layer.inputs_axis == weight.codes.ndim - 1
    codes, scale = (_rows(part, by_output) for part in (weight.codes, weight.scale))
    constants: dict[str, NDArray[Any]]
    constants = {"codes": _packed_codes(codes, weight), "scale": scale.astype(np.float32)}
    if weight.zero_point.any():
        constants["zero_point"] = _packed(_unsigned(_rows(weight.zero_point, by_output), weight), weight)
    elif not weight.kind.signed:  # where there is none, it takes the middle of the codes
        constants["zero_point"] = _packed(np.zeros(scale.shape, np.uint8), weight)
    named = {f"{node.name}/{part}": values for part, values in constants.items()}
    nodes = [cast for name, values in named.items() for cast in _constant(graph, name, values)]
    has_bias = len(node.input) > 2
    product = f"{node.output[0]}/product" if has_bias else node.output[0]
    made = onnx.helper.make_node(
        "MatMulNBits", [node.input[0], *named], [product], name=node.name, domain=RUNTIME_DOMAIN,
        K=codes.shape[1], N=codes.shape[0], bits=weight.kind.bits, block_size=weight.block, accuracy_level=_ACCURACY,
    )  # fmt: skip
    if not has_bias:
        return [*nodes, made]
    return [*nodes, made, onnx.helper.make_node("Add", [product, node.input[2]], node.output, name=f"{node.name}/Add")]


def _constant(graph: onnx.GraphProto, name: str, values: NDArray[Any]) -> list[onnx.NodeProto]:
    """Put a constant into the graph; return what else gives its name: a Cast where float16 holds it exactly."""
    half = half_scales(values) if values.dtype == np.float32 else None
    if half is None:
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        return []
    graph.initializer.append(onnx.numpy_helper.from_array(half, f"{name}/rounded"))
    cast = onnx.helper.make_node("Cast", [f"{name}/rounded"], [name], name=f"{name}/Cast", to=onnx.TensorProto.FLOAT)
    return [cast]


def _rows(values: NDArray[np.generic], by_output: bool) -> NDArray[np.generic]:
    """A weight, or its scales, as [outputs, inputs]."""
    matrix = values[0] if values.ndim == 3 else values
    return matrix if by_output else matrix.T


def _unsigned(codes: NDArray[np.generic], weight: StoredTensor) -> Codes:
    shift = 1 << (weight.kind.bits - 1) if weight.kind.signed else 0
    return np.asarray(codes.astype(np.int16) + shift, np.uint8)


def _packed_codes(codes: NDArray[np.generic], weight: StoredTensor) -> Codes:
    """Codes as [outputs, blocks, bytes of a block], the last block filled up."""
    rows = np.pad(_unsigned(codes, weight), [(0, 0), (0, -codes.shape[1] % weight.block)])
    return _packed(rows, weight).reshape(len(codes), -1, weight.block * weight.kind.bits // 8)


def _packed(rows: Codes, weight: StoredTensor) -> Codes:
    """Rows of codes as bytes: of two codes of 4 bits the first is the lower half."""
    if weight.kind.bits == 8:
        return np.ascontiguousarray(rows)
    even = np.pad(rows, [(0, 0), (0, rows.shape[1] % 2)])
    return np.asarray(even[:, ::2] | even[:, 1::2] << 4, np.uint8)
