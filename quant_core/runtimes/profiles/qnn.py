"""Qualcomm's NPUs through ONNX Runtime's QNN provider, run in the vendor's HTP library on x86; measured at 2.7.0."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core.errors import InputError, first_line
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import with_float32_ends
from quant_core.model.sessions import Numerics, session_options
from quant_core.model.signature import Signature
from quant_core.precision import DataType
from quant_core.runtimes.aimet_encodings import aimet_encodings
from quant_core.runtimes.kernels import LayerKernel
from quant_core.runtimes.profile import Rule
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.recurrent import ONE_SCALE_BESIDE_STATES, no_layers_of
from quant_core.runtimes.rules.tensors import no_blocks, types_among, weights_alone_among
from quant_core.runtimes.tensor_overrides import tensor_overrides
from quant_core.runtimes.written_model import WrittenLayer, WrittenModel

__all__ = ["QNN"]

_ACTIVATIONS = frozenset({DataType.UINT8, DataType.UINT16})
_WEIGHTS = frozenset({DataType.INT8, DataType.INT4})
_OPTIONS = {"soc_model": "60"}
"""Without a soc_model, a Conv whose output is not quantized at once gives wrong numbers."""
_PROVIDER = "QNN"
_MOVED = re.compile(r"(/duplicated)?(_token_\d+)?$")  # what optimisations add to names

Feeds = Mapping[str, NDArray[np.generic]]


class _QnnModel:
    """A model that the vendor's library has compiled for one sample at a time, or for the batch it is fixed to."""

    def __init__(self, path: Path) -> None:
        self.signature = Signature.of(FloatGraph.load(path))
        self._session = _opened(path, self.signature)
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._lock = Lock()  # the library is not said to take calls of several threads

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.generic]]:
        """Run on arrays sample by sample, from any thread."""
        with self._lock:
            found = [self._session.run(None, one) for one in self._samples(feeds)]
        return {name: self._joined(name, values) for name, *values in zip(self._outputs, *found, strict=True)}

    def call_on(self, feeds: Feeds) -> Callable[[], object]:
        """A call on arrays handed over before."""
        samples = list(self._samples(feeds))
        return lambda: [self._session.run(None, one) for one in samples]

    def _samples(self, feeds: Feeds) -> Iterator[dict[str, NDArray[np.generic]]]:
        """The feeds of each sample; all at once for a model with a fixed batch."""
        axes = {name: self.signature.input(name).axis for name in self._inputs}
        counts = [feeds[name].shape[axis] for name, axis in axes.items() if axis is not None]
        if self.signature.batch is not None or not counts:
            yield {name: feeds[name] for name in self._inputs}
            return
        for at in range(counts[0]):
            yield {name: feeds[name] if axis is None else feeds[name].take([at], axis) for name, axis in axes.items()}

    def _joined(self, name: str, values: list[NDArray[np.generic]]) -> NDArray[np.generic]:
        if len(values) == 1:
            return values[0]
        return np.concatenate(values, self.signature.output(name).axis or 0)


def _opened(path: Path, signature: Signature) -> ort.InferenceSession:
    """The file as an application opens it; raises InputError where the provider does not."""
    options = session_options(Numerics.DEPLOYED, path.parent)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    library, devices = _provider()
    options.add_provider_for_devices(devices, {"backend_path": library, **_OPTIONS})
    model = with_float32_ends(onnx.load(path, load_external_data=False))
    if signature.batch is None:
        _fix_batch(model, signature, options)
    try:
        return ort.InferenceSession(model.SerializeToString(), options)
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        raise InputError(f"{path.name}: QNN does not run it: {first_line(error)}") from error


def _fix_batch(model: onnx.ModelProto, signature: Signature, options: ort.SessionOptions) -> None:
    """Have one sample at a time: the provider takes no sizes that are open."""
    for value in model.graph.input:
        axis, shape = signature.input(value.name).axis, value.type.tensor_type.shape
        if axis is None or axis >= len(shape.dim):
            continue
        if symbol := shape.dim[axis].dim_param:
            options.add_free_dimension_override_by_name(symbol, 1)
        else:
            shape.dim[axis].dim_value = 1


@cache
def _provider() -> tuple[str, list[Any]]:
    """Register the provider; the path of the vendor's library, and the devices to open models on."""
    import onnxruntime_qnn

    ort.register_execution_provider_library(_PROVIDER, onnxruntime_qnn.get_library_path())
    return onnxruntime_qnn.get_qnn_htp_path(), [one for one in ort.get_ep_devices() if one.ep_name == _PROVIDER]


def _kernels(path: Path) -> list[LayerKernel]:
    """Return where layers are computed, then all else that falls back to the CPU, one entry a node."""
    signature, model = Signature.of(FloatGraph.load(path)), WrittenModel.of_file(path)
    session = _opened(path, signature)
    placed = _placed(session)
    layers = [_layer_kernel(layer, placed) for layer in model.layers]
    names = {layer.node.name for layer in model.layers}
    rest = [node for node in _inner(model.model.graph) if node.name not in names]
    return layers + [_kernel(node, placed) for node in rest if placed.get(node.name, _PROVIDER) != _PROVIDER]


def _placed(session: ort.InferenceSession) -> dict[str, str]:
    """The provider of each node; the CPU's where a part of it is there."""
    parts = sorted(session.get_provider_graph_assignment_info(), key=lambda part: part.ep_name != _PROVIDER)
    return {_MOVED.sub("", node.name): part.ep_name for part in parts for node in part.get_nodes()}


def _layer_kernel(layer: WrittenLayer, placed: Mapping[str, str]) -> LayerKernel:
    kernel = _kernel(layer.node, placed)
    weight = layer.weight and placed.get(layer.weight.node, _PROVIDER)
    if not kernel.is_integer or weight == _PROVIDER:
        return kernel
    why = "its weight is dequantized on the CPU" if weight else "its weight is not a quantized constant"
    return replace(kernel, is_integer=False, why=f"{why}: it is computed in float")


def _kernel(node: onnx.NodeProto, placed: Mapping[str, str]) -> LayerKernel:
    where = placed.get(node.name, "").removesuffix("ExecutionProvider")
    npu = where == _PROVIDER
    return LayerKernel(node.name, node.op_type, where, npu, "" if npu or not where else "it is left to the CPU")


def _inner(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes but those that quantize inputs and dequantize outputs: an application may do that itself."""
    inputs, outputs = ({value.name for value in values} for values in (graph.input, graph.output))
    for node in graph.node:
        quantizes = node.op_type == "QuantizeLinear" and node.input[0] in inputs
        if not quantizes and not (node.op_type == "DequantizeLinear" and node.output[0] in outputs):
            yield node


def _signed(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for node, kind in model.pairs():
        if node.op_type == "QuantizeLinear" and kind is not None and kind.signed:
            yield node.name, f"{kind}: there are uint8, uint16"


_UNSIGNED_ACTIVATIONS = Rule(
    "unsigned-activations",
    "slow",
    "Activations are unsigned: of layers between signed ones, weights, biases and a Pad are left to the CPU.",
    _signed,
)


def _pools(model: WrittenModel) -> Iterator[tuple[str, str]]:
    signed = {node.output[0] for node, kind in model.pairs() if kind is DataType.INT16}
    for node in model.model.graph.node:
        if node.op_type in ("AveragePool", "GlobalAveragePool") and node.input[0] in signed:
            yield node.name, f"{node.op_type} of int16: it stops the session"


_NO_SIGNED_POOLS = Rule(
    "no-signed-16-bit-pools", "refused", "An average pool reads no int16: it stops the session.", _pools
)


def _conv_weights(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.layers:
        weight = layer.weight
        if layer.node.op_type != "Conv" or weight is None or layer.reads is None:
            continue
        if weight.kind is DataType.UINT8 and weight.scale is not None and weight.scale.size > 1:
            yield layer.node.name, "uint8 weights with a scale a channel: they stop the session"
        elif weight.kind.bits > layer.reads.kind.bits:
            yield layer.node.name, f"{weight.kind} weights beside {layer.reads.kind}: they stop the session"


_CONV_WEIGHTS = Rule(
    "conv-weights",
    "refused",
    "Weights of a Conv with a scale a channel are signed, and have no more bits than what it reads.",
    _conv_weights,
)


QNN = replace(
    REFERENCE,
    name="qnn",
    title="Qualcomm NPUs (ONNX Runtime's QNN provider), run in the vendor's HTP library on x86",
    assumes="the NPU computes what the vendor's library does",
    activations=_ACTIVATIONS,
    weights=_WEIGHTS,
    weights_alone=frozenset(),
    rules=(
        *REFERENCE.rules,
        types_among(_ACTIVATIONS, _WEIGHTS, "slow"),
        weights_alone_among(frozenset(), "slow"),
        _UNSIGNED_ACTIVATIONS,
        _NO_SIGNED_POOLS,
        _CONV_WEIGHTS,
        no_blocks("slow"),
        ONE_SCALE_BESIDE_STATES,
        no_layers_of(("RNN",)),
    ),
    recurrent="They run in the vendor's library as in float16, from weights with one scale; RNN is left to the CPU.",
    numbers="The provider takes one sample at a time. What it does not take is left to the CPU, and listed by "
    "`narrowcast check`: weight and bias of a Conv from 8-bit to 16-bit activations above all, which is then "
    "computed in float. Times are those of the library on this machine, not of an NPU.",
    opens=_QnnModel,
    kernels=_kernels,
    is_simulator=True,
    package="onnxruntime-qnn",
    options={"block_size": (None,), "format": ("qdq",)},
    session_entries=_OPTIONS,
    has_one_scale_beside_states=True,
    shares_weights=False,
    beside={"encodings.json": aimet_encodings, "tensor_overrides.json": tensor_overrides},
)
