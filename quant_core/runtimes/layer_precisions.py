"""The precision of each layer of a quantized ONNX file of any tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from quant_core.model.graph import attribute
from quant_core.model.half_precision import types_given
from quant_core.model.operators import PRODUCT_OPS, RECURRENT_OPS
from quant_core.precision import WEIGHT_TYPES, DataType, Precision
from quant_core.runtimes.written_model import WrittenModel

__all__ = ["UNKNOWN", "StoredLayer", "stored_layers"]

UNKNOWN = "unknown"
"""The precision of a layer of which the file does not tell it."""

_FLOAT_OPERATORS = (*PRODUCT_OPS, *RECURRENT_OPS)
_CODES = {
    "QLinearConv": (2, 5),
    "QLinearMatMul": (2, 5),
    "QGemm": (2, 5),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "DynamicQuantizeLSTM": (0, 1),
}
"""Integer operators, and which inputs of each have the types of what it reads and of its weight."""
_STANDARD = ("", "ai.onnx")
_ADDED_TO_NODE, _ADDED_TO_TENSOR = "_quant", "_quantized"
"""What ONNX Runtime's quantizer puts behind the names of integer operators and of codes."""


@dataclass(frozen=True)
class StoredLayer:
    """A product or recurrent node of a file."""

    name: str
    """Of its node, as it is called in the float model; what it writes, where it has none."""
    writes: str
    """The tensor it writes, as it is called in the float model."""
    precision: str
    """Types of what it reads and of its weight, as `a8w8`."""
    is_integer: bool
    """Whether its operator is one that adds up codes."""


def stored_layers(model: WrittenModel) -> list[StoredLayer]:
    """Return the products and recurrent nodes of a file in graph order: of float, of codes, and of other tools."""
    halves = types_given(model.model)
    return [
        StoredLayer(
            node.name.removesuffix(_ADDED_TO_NODE) or node.output[0],
            node.output[0].removesuffix(_ADDED_TO_TENSOR),
            _precision(model, node, halves),
            node.op_type in _CODES,
        )
        for node in _products(model.model.graph)
    ]


def _products(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield what multiplies: of operators that are not ONNX's own, what its name says does."""
    for node in graph.node:
        named_so = node.domain not in _STANDARD and any(kind in node.op_type for kind in ("Conv", "Gemm", "MatMul"))
        if node.op_type in (*_FLOAT_OPERATORS, *_CODES) or named_so:
            yield node


def _precision(model: WrittenModel, node: onnx.NodeProto, halves: Mapping[str, int]) -> str:
    floating = next(
        (kind for kind in DataType for name in [*node.input, *node.output] if halves.get(name) == kind.onnx_type),
        DataType.FLOAT32,
    )
    if node.op_type == "MatMulNBits":
        return f"{floating.code}w{attribute(node, 'bits', 4)}"
    if node.op_type == "DynamicQuantizeLSTM":  # which makes uint8 of the floats that it reads
        return _written(DataType.UINT8, model.kind_of(node.input[1]))
    if node.op_type in _CODES:
        return _written(*(model.kind_of(node.input[place]) for place in _CODES[node.op_type]))
    if node.domain not in _STANDARD:
        return UNKNOWN
    return _written(*(model.kind_of(name) or floating for name in node.input[:2]))


def _written(activations: DataType | None, weights: DataType | None) -> str:
    if activations is None or weights is None:
        return UNKNOWN
    if activations.is_float and weights.is_float:
        return str(Precision(weights, weights))
    if weights in WEIGHT_TYPES:
        return str(Precision(activations, weights))
    return f"{activations} activations, {weights} weights"
