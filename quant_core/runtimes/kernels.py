"""What each layer of a file runs as in a default session of ONNX Runtime, read from the optimised graph it saves."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from quant_core.errors import InputError, first_line
from quant_core.model.graph import attribute
from quant_core.model.operators import RECURRENT_OPS
from quant_core.model.sessions import CPU
from quant_core.runtimes.written_model import WrittenLayer, WrittenModel

__all__ = ["NOT_QUANTIZED", "NO_KERNEL", "LayerKernel", "kernels_of", "layer_kernels"]

NOT_QUANTIZED = "its input is not quantized"
"""Why layers are float that a plan leaves so."""
NO_KERNEL = "no integer kernel"
"""Why layers are computed in float between their pairs."""

_INTEGER = (
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "ConvInteger",
    "DynamicQuantizeLSTM",
)
_ADDED = re.compile(r"^fused |(/\w+Fusion/)+|(_nchwc)?(_token_\d+)?$")
"""What fusions and transformations of layouts add to names."""


@dataclass(frozen=True)
class LayerKernel:
    """How a layer is computed."""

    layer: str
    """Its node in the file."""
    op_type: str
    """What that is."""
    runs_as: str
    """The operator in the optimised graph; empty where it was not found there by name."""
    is_integer: bool
    """Whether that adds up codes."""
    why: str
    """Why it is not fused with its pairs, or what is wrong with how it is; empty otherwise."""
    because_of: tuple[str, ...] = ()
    """The nodes before or behind it that are the reason, where there are such."""


def layer_kernels(path: Path) -> list[LayerKernel]:
    """Return what the layers of a file run as here, in graph order; raises InputError for a file that does not open."""
    return kernels_of(path)[0]


def kernels_of(path: Path) -> tuple[list[LayerKernel], list[LayerKernel]]:
    """Return what the layers of a file run as here, and what its other nodes do, in graph order.

    Raises InputError for a file that does not open.
    """
    optimised, model = _by_name(_optimised(path)), WrittenModel.of_file(path)
    layers = [_kernel(layer, _of_layer(layer.node, model, optimised)) for layer in model.layers]
    others = [_other_kernel(node, _of(node, optimised)) for node in model.other_nodes()]
    written_so = [one for one in others if one.op_type == "DynamicQuantizeLSTM"]
    return layers + written_so, [one for one in others if one not in written_so]


def _optimised(path: Path) -> onnx.GraphProto:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        try:
            ort.InferenceSession(path, options, providers=list(CPU))
        except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
            raise InputError(f"{path.name}: ONNX Runtime does not open it: {first_line(error)}") from error
        return onnx.load(options.optimized_model_filepath, load_external_data=False).graph


def _by_name(graph: onnx.GraphProto) -> Mapping[str, onnx.NodeProto]:
    named = [node for node in graph.node if node.name]
    return {_ADDED.sub("", node.name): node for node in named} | {node.name: node for node in named}


def _of(node: onnx.NodeProto, optimised: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """Return what a node became, or what has the name of what it gave."""
    return optimised.get(node.name) or optimised.get(node.output[0])


def _of_layer(
    node: onnx.NodeProto, model: WrittenModel, optimised: Mapping[str, onnx.NodeProto]
) -> onnx.NodeProto | None:
    """Return what a layer became: a Conv in blocks of channels (NCHWc) is named after the last tensor it writes."""
    if node.name in optimised:
        return optimised[node.name]
    found = (optimised.get(name) for name in model.tensors_behind(node))
    return next((one for one in found if one is not None and node.op_type in one.op_type), None)


def _kernel(layer: WrittenLayer, node: onnx.NodeProto | None) -> LayerKernel:
    runs_as = "" if node is None else node.op_type
    if runs_as in _INTEGER:
        return LayerKernel(layer.node.name, layer.node.op_type, runs_as, True, "")
    why, because_of = _why(layer, node)
    return LayerKernel(layer.node.name, layer.node.op_type, runs_as, False, why, tuple(filter(None, because_of)))


def _why(layer: WrittenLayer, node: onnx.NodeProto | None) -> tuple[str, tuple[str, ...]]:
    """Return why a layer is not computed in integers, and because of which nodes."""
    if node is not None and node.op_type == "MatMulNBits" and attribute(node, "accuracy_level", 0) == 4:
        return "rounds what it reads to int8, block by block (accuracy level 4)", ()
    if layer.reads is None:
        return NOT_QUANTIZED, (layer.source,)
    if layer.weight is None:
        return "its weight is not a quantized constant", ()
    if layer.node.op_type in RECURRENT_OPS:
        return "recurrent layers are computed in float between their pairs", ()
    if layer.reads.kind.bits != 8 or layer.weight.kind.bits != 8:
        return f"{NO_KERNEL} for {layer.reads.kind} activations and {layer.weight.kind} weights", (layer.source,)
    return _why_not_behind(layer), layer.readers


def _why_not_behind(layer: WrittenLayer) -> str:
    """Return why a layer whose inputs are all in 8 bits is not fused with the Q/DQ pair after it."""
    if layer.writes is None:
        return "its output does not go into one Q/DQ pair alone"
    if layer.writes.bits != 8:
        return f"the Q/DQ pair after it is {layer.writes}"
    if layer.activation and layer.writes.signed:
        return f"its {layer.activation} is not fused: 0 is not the lowest code of the {layer.writes} pair after it"
    return "ONNX Runtime does not fuse it with its pairs"


def _other_kernel(node: onnx.NodeProto, found: onnx.NodeProto | None) -> LayerKernel:
    """Say what a node runs as that is no layer; one that is not found was fused into another, or was of no use."""
    runs_as = "" if found is None else found.op_type
    integer = runs_as.startswith("QLinear") or runs_as in _INTEGER
    return LayerKernel(node.name, node.op_type, runs_as, integer, "" if runs_as else "part of another node, or removed")
