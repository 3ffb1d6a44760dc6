"""Which axis of a weight is that of what its node puts out, and which that of what it reads."""

from __future__ import annotations

import onnx

from quant_core.model.graph import attribute
from quant_core.model.operators import RECURRENT_OPS, TABLE_OP

__all__ = ["input_axis", "output_axis"]


def output_axis(node: onnx.NodeProto, weight: str | None, rank: int) -> int:
    """Return the axis of output channels of a node's weight of so many dimensions, or that of a table's rows.

    Of a recurrent node's weights [directions, gates x hidden, inputs] it is the second.
    """
    if node.op_type in ("Conv", TABLE_OP):
        return 0
    if node.op_type in ("ConvTranspose", *RECURRENT_OPS):
        return 1
    on_the_left = node.input[0] == weight
    if node.op_type == "Gemm":
        transposed = bool(attribute(node, "transA" if on_the_left else "transB", 0))
        return int(on_the_left) ^ int(not transposed)
    return max(rank - 2, 0) if on_the_left else rank - 1


def input_axis(node: onnx.NodeProto, weight: str | None, rank: int) -> int | None:
    """Return the axis of inputs of a node's weight, or that along the rows of a table; None of convolutions."""
    if node.op_type == "Gemm":
        return 1 - output_axis(node, weight, rank)
    if node.op_type == TABLE_OP:
        return 1
    if node.op_type in RECURRENT_OPS:
        return 2
    if node.op_type == "MatMul":
        return rank - 1 if node.input[0] == weight else max(rank - 2, 0)
    return None
