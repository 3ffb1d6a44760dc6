"""Looks rows up in a table that is held as codes, and dequantizes no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from quant_core.model.graph import FloatGraph
from quant_core.model.opset import OPSET, opset_of, pair_domain
from quant_core.precision import DataType
from quant_core.quantization.half_scales import held_in_half
from quant_core.quantization.weights import Weight
from quant_core.runtimes.profile import RuntimeProfile

if TYPE_CHECKING:
    from quant_core.quantization.plan_graph.qdq import PlanWriter

__all__ = ["rows_of_codes", "takes_rows_of_codes"]


def takes_rows_of_codes(graph: FloatGraph, kind: DataType, runtime: RuntimeProfile) -> bool:
    """Return whether rows of codes can be looked up: ONNX Runtime's Gather takes none of 4 bits.

    Its own domain's DequantizeLinear has no scale for each row. Other runtimes have none for blocks, which rows are
    then, or only where the shape of what is dequantized is known.
    """
    has_scales_a_row = opset_of(graph.model) >= OPSET and not pair_domain(graph.model)
    return runtime.looks_up_codes and has_scales_a_row and not kind.is_float and kind.bits >= 8


def rows_of_codes(writer: PlanWriter, index: int, weight: Weight, table: str, result: str) -> list[onnx.NodeProto]:
    """Return the nodes for a Gather in a table: it looks up codes and their scales, and dequantizes those.

    Args:
        writer: What makes the nodes, and keeps the constants.
        index: Of the Gather in the float graph.
        weight: The table.
        table: Name of what its codes stand for.
        result: Name of the rows.

    """
    places, qparams = writer.quantizer.graph.nodes[index].input[1], weight.qparams
    writer.constants[f"{table}/codes"] = weight.codes
    nodes, read = [writer.rewired(index, [f"{table}/codes", places], [f"{result}/codes"])], [f"{result}/codes"]
    parts = {"scale": qparams.scale}
    if qparams.zero_point.any():
        parts["zero_point"] = qparams.zero_point.astype(qparams.dtype.numpy_type)
    half = held_in_half(qparams, writer.quantizer.config)
    for part, values in parts.items():
        constant, found = f"{table}/{part}/rows", f"{result}/{part}"
        held = half if part == "scale" and half is not None else values
        writer.constants[constant] = held.reshape(len(held), -1) if held.ndim else held
        looked_up = f"{found}/rounded" if held is half else found
        if held.ndim:
            nodes.append(writer.node("Gather", [constant, places], [looked_up], axis=0))
        if held is half:
            nodes.append(writer.node("Cast", [looked_up], [found], to=DataType.FLOAT32.onnx_type))
        read.append(found if held.ndim else constant)
    blocks = {"axis": -1, "block_size": qparams.block or weight.codes.shape[1]} if qparams.scale.ndim else {}
    return [*nodes, writer.node("DequantizeLinear", read, [result], **blocks)]
