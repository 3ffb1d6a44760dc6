"""The form of layers that stay float between pairs, in which ONNX Runtime leaves them so.

A default session rounds the float weight of a Conv, ConvTranspose or Gemm between two pairs to int8, with one scale for
all channels (its WeightBiasQuantization, seen at 1.32 with pairs of 8 and of 16 bits), but not where the bias is the
result of a node. So the bias is held in 32-bit codes that are as exact as float32 is.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph, attribute, integer_attribute
from quant_core.numerics import QParams
from quant_core.precision import DataType

__all__ = ["bias_in_codes"]

_ROUNDED = ("Conv", "ConvTranspose", "Gemm")
"""Operators whose float weights are rounded."""
_LARGEST = 2.0**30
"""The largest code."""
_SMALLEST = 1e-20
"""Magnitude that is 0 for a bias."""


def bias_in_codes(graph: FloatGraph, node: onnx.NodeProto) -> tuple[NDArray[np.int32], QParams] | None:
    """Return the bias of a float layer in codes, zeros if it has none; None for a layer that is left alone as it is."""
    if node.op_type not in _ROUNDED or not graph.is_float_constant(node.input[1]):
        return None
    name = node.input[2] if len(node.input) > 2 else ""
    if name and not (graph.is_float_constant(name) and len(graph.initializers[name].dims) == 1):
        return None
    bias = np.asarray(graph.constant(name) if name else np.zeros(_outputs(graph, node)), np.float64)
    largest = max(float(np.max(np.abs(bias), initial=0.0)), _SMALLEST)
    scale = np.float32(largest / _LARGEST)
    codes = np.round(bias / np.float64(scale)).astype(np.int32)
    return codes, QParams(DataType.INT32, np.asarray(scale), np.zeros((), np.int64))


def _outputs(graph: FloatGraph, node: onnx.NodeProto) -> int:
    """Return how many output channels a layer has."""
    weight = graph.initializers[node.input[1]]
    if node.op_type == "ConvTranspose":
        return int(weight.dims[1]) * integer_attribute(node, "group", 1)
    return int(weight.dims[1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0])
