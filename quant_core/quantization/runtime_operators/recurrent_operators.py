"""A model whose LSTM layers between 8 bits are ONNX Runtime's own operator DynamicQuantizeLSTM.

An LSTM between pairs is computed in float, and its weights are dequantized on every run. The operator multiplies codes.
It chooses a scale for what it reads on every call, over all samples of the call, and one for the state at every step:
results depend on what is in a batch together. The pair in front of it stays. Without it the layer before would have no
integer kernel, and ONNX Runtime could not open some models in which a Transpose has a pair on one side alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.opset import RUNTIME_DOMAIN
from quant_core.precision import DataType
from quant_core.quantization.runtime_operators.replaced_nodes import keep_used
from quant_core.runtimes.byte_sums import overflows
from quant_core.runtimes.written_model import StoredTensor, WrittenLayer, WrittenModel

__all__ = ["with_dynamic_lstms"]

_PARAMETERS = 8
"""Inputs of an LSTM; scale and zero point of both weights come behind them."""


def with_dynamic_lstms(model: onnx.ModelProto, keeps_sums_in_range: bool) -> onnx.ModelProto:
    """The model with a DynamicQuantizeLSTM for each LSTM that reads 8 bits and has weights of 8 bits.

    With `keeps_sums_in_range` weights whose sums might saturate in 16 bits (see `byte_sums`) are uint8.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    layers = {layer.node.name: layer for layer in WrittenModel(model).layers if _is_taken(layer)}
    nodes = [
        _dynamic(layers[node.name], changed.graph, keeps_sums_in_range) if node.name in layers else node
        for node in model.graph.node
    ]
    keep_used(changed.graph, nodes)
    if layers and all(entry.domain != RUNTIME_DOMAIN for entry in changed.opset_import):
        changed.opset_import.add(domain=RUNTIME_DOMAIN, version=1)
    return changed


def _is_taken(layer: WrittenLayer) -> bool:
    """Return whether the operator computes what a layer does: it has one zero point for all channels."""
    stored = (layer.weight, layer.state_weight)
    return (
        layer.node.op_type == "LSTM"
        and layer.has_8_bit_input
        and all(
            weight is not None and weight.kind.bits == 8 and not weight.block and len(np.unique(weight.zero_point)) == 1
            for weight in stored
        )
    )


def _dynamic(layer: WrittenLayer, graph: onnx.GraphProto, keeps_sums_in_range: bool) -> onnx.NodeProto:
    """The operator for a layer; its constants go into the graph."""
    node = layer.node
    inputs = [*node.input, *[""] * (_PARAMETERS - len(node.input))]
    for place, weight in ((1, layer.weight), (2, layer.state_weight)):
        assert weight is not None and weight.codes is not None and weight.scale is not None  # see _is_taken
        for part, values in _constants(weight, keeps_sums_in_range).items():
            name = f"{node.input[place]}/dynamic/{part}"
            if all(tensor.name != name for tensor in graph.initializer):  # another layer may have the same weight
                graph.initializer.append(onnx.numpy_helper.from_array(values, name))
            if part == "codes":
                inputs[place] = name
            else:
                inputs.append(name)
    made = onnx.helper.make_node("DynamicQuantizeLSTM", inputs, node.output, name=node.name, domain=RUNTIME_DOMAIN)
    made.attribute.extend(entry for entry in node.attribute if entry.name != "layout")
    return made


def _constants(weight: StoredTensor, keeps_sums_in_range: bool) -> Mapping[str, NDArray[Any]]:
    """A weight as the operator has it: codes [directions, inputs, gates x hidden], scales for the last axis or none."""
    assert weight.codes is not None and weight.scale is not None
    codes, zero = weight.codes.transpose(0, 2, 1), int(np.ravel(weight.zero_point)[0])
    if keeps_sums_in_range and weight.kind is DataType.INT8 and overflows("MatMul", codes, 1):
        codes, zero = (codes.astype(np.int16) + 128).astype(np.uint8), zero + 128
    shape = (len(codes), codes.shape[2]) if weight.scale.ndim else (len(codes),)
    scale = np.broadcast_to(weight.scale, shape)
    return {
        "codes": np.ascontiguousarray(codes),
        "scale": np.ascontiguousarray(scale),
        "zero_point": np.full(shape, zero, codes.dtype),
    }
