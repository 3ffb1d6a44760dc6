"""How a product with a weight is written so that its runtime computes what it says.

ONNX Runtime makes a MatMulNBits of a MatMul or Gemm whose weight is held in up to 8 bits, unless what it reads is held
in 8 bits too; and that rounds what it reads to int8. It leaves a Gemm with transB=1 alone, and a MatMul whose
weight has more than two dimensions.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

import numpy as np
import onnx

from quant_core.model.graph import FloatGraph, attribute
from quant_core.precision import DataType
from quant_core.quantization.weights import Weight

__all__ = ["LayerForm", "in_form", "layer_form", "node_in_form", "unsigned"]


class LayerForm(Enum):
    """How a layer's weight lies in the file."""

    PLAIN = ""
    """As in the float model."""
    STACKED = "/stacked"
    """With a leading axis of 1, in a MatMul."""
    TRANSPOSED = "/transposed"
    """As the second operand of a Gemm with transB=1."""


def layer_form(graph: FloatGraph, index: int, weights: DataType, reads: DataType | None) -> LayerForm:
    """The form in which a layer is not fused to MatMulNBits: `reads` is the type its first input comes in."""
    node = graph.nodes[index]
    if node.op_type not in ("MatMul", "Gemm") or weights.is_float or weights.bits > 8:
        return LayerForm.PLAIN
    read, weight = graph.shape(node.input[0]), graph.shape(node.input[1])
    in_8_bits = reads is not None and not reads.is_float and reads.bits == 8
    if in_8_bits or weight is None or len(weight) != 2 or not graph.is_float_constant(node.input[1]):
        return LayerForm.PLAIN
    if node.op_type == "Gemm":
        return LayerForm.PLAIN if attribute(node, "transB", 0) else LayerForm.TRANSPOSED
    if read is None or len(read) < 2:
        return LayerForm.PLAIN
    return LayerForm.TRANSPOSED if len(read) == 2 else LayerForm.STACKED


def in_form(weight: Weight, form: LayerForm) -> Weight:
    """A weight of two dimensions, laid out as its form says."""
    if form is LayerForm.PLAIN:
        return weight
    qparams, transposed = weight.qparams, form is LayerForm.TRANSPOSED
    if qparams.block is not None:
        scale, zero_point = (part.T if transposed else part[None] for part in (qparams.scale, qparams.zero_point))
        qparams = replace(qparams, scale=np.ascontiguousarray(scale), zero_point=np.ascontiguousarray(zero_point))
    axis = None if weight.axis is None else (1 - weight.axis if transposed else weight.axis + 1)
    codes = weight.codes.T if transposed else weight.codes[None]
    return replace(weight, codes=np.ascontiguousarray(codes), qparams=qparams, axis=axis)


def node_in_form(node: onnx.NodeProto, form: LayerForm) -> None:
    """Make a layer's node read its weight in a form."""
    if form is LayerForm.TRANSPOSED:
        kept = [entry for entry in node.attribute if entry.name != "transB"] if node.op_type == "Gemm" else []
        node.op_type = "Gemm"
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("transB", 1)])


def unsigned(weight: Weight) -> Weight:
    """An int8 weight as uint8, for the same values: codes and zero point are 128 more."""
    qparams = replace(weight.qparams, dtype=DataType.UINT8, zero_point=weight.qparams.zero_point + 128)
    return replace(weight, codes=(weight.codes.astype(np.int16) + 128).astype(np.uint8), qparams=qparams)
