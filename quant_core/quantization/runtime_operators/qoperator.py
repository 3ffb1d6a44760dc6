"""A model with Q/DQ pairs as one with integer operators (QLinearConv, QLinearMatMul, QGemm, ...).

ONNX Runtime converts it, as it does whenever it runs such a model with extended optimizations; many of the operators
are its own. It has them for 8-bit types. They round what they add up once, to the result's code, where the pairs
around a float operator round a float32: results differ by a code now and then.

A layer whose result is not quantized (beside float32) has no integer operator, and keeps its pairs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort

from quant_core.errors import UnsupportedError, first_line
from quant_core.model.sessions import CPU, session_options

__all__ = ["with_integer_operators"]

_FLOAT_LAYERS = frozenset("Conv ConvTranspose Gemm MatMul FusedConv FusedGemm FusedMatMul".split())


def with_integer_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as ONNX Runtime converts it; raises UnsupportedError for a layer that it leaves in pairs."""
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Otherwise what is int8 becomes uint8 on some processors before it is converted, or is left as it is.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    with tempfile.TemporaryDirectory() as scratch:
        options.optimized_model_filepath = str(Path(scratch, "converted.onnx"))
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=CPU)
        except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
            raise UnsupportedError(
                f"format: ONNX Runtime cannot convert the model; use qdq: {first_line(error)}"
            ) from error
        converted = onnx.load(options.optimized_model_filepath)
    _check_layers(converted)
    used = {node.domain for node in converted.graph.node} | {""}
    kept = [entry for entry in converted.opset_import if entry.domain in used]
    del converted.opset_import[:]
    converted.opset_import.extend(kept)
    converted.producer_name = model.producer_name
    return converted


def _check_layers(model: onnx.ModelProto) -> None:
    """Raise UnsupportedError for a layer between pairs."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for node in model.graph.node:
        between = not dequantized.isdisjoint(node.input[1:2]) and not quantized.isdisjoint(node.output)
        if node.op_type in _FLOAT_LAYERS and between:
            raise UnsupportedError(
                f"format: ONNX Runtime has no integer operator for layer {node.name!r} ({node.op_type}) as it is; "
                "leave it in float with exclude, or use the format qdq"
            )
