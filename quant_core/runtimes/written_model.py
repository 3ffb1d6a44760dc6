"""A quantized ONNX file as the rules of runtimes look at it: its pairs, and its layers with what they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.graph import attribute, integer_attribute
from quant_core.model.operators import PRODUCT_OPS, RECURRENT_OPS
from quant_core.model.opset import opset_of
from quant_core.precision import DataType

__all__ = ["StoredTensor", "WrittenLayer", "WrittenModel"]

_LAYERS = (*PRODUCT_OPS, *RECURRENT_OPS)
_ACTIVATIONS = ("Relu", "Clip")
_TAKEN_IN = (*_ACTIVATIONS, "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh", "Add", "Sum")
"""Operators that ONNX Runtime computes as part of a float Conv in front of them."""
_INTEGER = {
    **{"QLinearConv": (3,), "QLinearMatMul": (3,), "QGemm": (3,), "ConvInteger": (1,), "MatMulInteger": (1,)},
    "DynamicQuantizeLSTM": (1, 2),
}
"""Integer operators, and which inputs of each are weights."""
_MIDDLE = 128
_KINDS = {kind.onnx_type: kind for kind in DataType}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor behind a DequantizeLinear: how it is held."""

    node: str
    """The DequantizeLinear."""
    kind: DataType
    """Type of the codes."""
    scale: NDArray[np.float32] | None
    """Of all, of channels or of blocks; None where it is not a constant."""
    zero_name: str
    """The initializer that holds the zero point; empty without one."""
    zero_point: NDArray[np.int64]
    """0 where the file leaves it out."""
    codes: NDArray[np.generic] | None
    """Those of a constant."""
    block: int
    """Values that share a scale; 0: a channel, or all."""


@dataclass(frozen=True)
class WrittenLayer:
    """A product with a weight, or a recurrent node, and what it reads."""

    node: onnx.NodeProto
    """The node."""
    reads: StoredTensor | None
    """Its first input; None for one that is float."""
    weight: StoredTensor | None
    """Its second input where that is a constant held as codes."""
    bias: StoredTensor | None
    """The third input of a product where that is held as codes."""
    state_weight: StoredTensor | None
    """That of a recurrent node where it is a constant held as codes."""
    writes: DataType | None
    """Type of the pair behind it, or behind its activation, if that alone reads it."""
    activation: str
    """The operator between it and what reads it: Relu, Clip, or empty."""
    source: str
    """The node that computes its first input; empty for an input of the model."""
    readers: tuple[str, ...]
    """The nodes that read what it, or its activation, writes."""

    @property
    def inputs_axis(self) -> int | None:
        """The axis of a MatMul's or Gemm's weight that is summed over."""
        if self.weight is None or self.weight.codes is None or self.node.op_type not in ("MatMul", "Gemm"):
            return None
        if self.node.op_type == "Gemm":
            return 1 if attribute(self.node, "transB", 0) else 0
        return max(self.weight.codes.ndim - 2, 0)

    @property
    def has_8_bit_input(self) -> bool:
        """Whether what it reads is held in 8 bits."""
        return self.reads is not None and self.reads.kind.bits == 8


class WrittenModel:
    """A file, looked at once."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.opset = opset_of(model)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producer = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in filter(None, node.input):
                self._readers.setdefault(name, []).append(node)

    @classmethod
    def of_file(cls, path: Path) -> WrittenModel:
        """Read a file, with its external data."""
        return cls(onnx.load(path))

    @cached_property
    def layers(self) -> tuple[WrittenLayer, ...]:
        """Its products and recurrent nodes, in graph order."""
        return tuple(self._layer(node) for node in self.model.graph.node if node.op_type in _LAYERS)

    @property
    def has_open_sizes(self) -> bool:
        """Whether an input may be of several sizes."""
        kinds = [value.type.tensor_type for value in self.model.graph.input if value.name not in self._initializers]
        return any(
            not kind.HasField("shape") or any(not dim.HasField("dim_value") for dim in kind.shape.dim) for kind in kinds
        )

    @cached_property
    def products(self) -> tuple[WrittenLayer, ...]:
        """Its products, which may have integer kernels, in graph order."""
        return tuple(layer for layer in self.layers if layer.node.op_type in PRODUCT_OPS)

    def integer_products(self) -> Iterator[tuple[onnx.NodeProto, NDArray[np.generic], int | None]]:
        """Every product that is an integer operator: its constant codes, and the axis of them that is summed over."""
        for node in self.model.graph.node:
            for at in _INTEGER.get(node.op_type, ()):
                codes = self._constant(node.input[at])
                if codes is not None:
                    inner = None if "Conv" in node.op_type else max(codes.ndim - 2, 0)
                    yield node, codes, 1 if node.op_type == "QGemm" and attribute(node, "transB", 0) else inner

    def pairs(self) -> Iterator[tuple[onnx.NodeProto, DataType | None]]:
        """Every QuantizeLinear and DequantizeLinear, with the type of its codes where the file tells."""
        for node in self.model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                yield node, self._kind(node)

    def stored(self) -> Iterator[StoredTensor]:
        """Every tensor that is held as codes, in graph order."""
        for node in self.model.graph.node:
            tensor = self._stored(node.output[0]) if node.op_type == "DequantizeLinear" else None
            if tensor is not None:
                yield tensor

    def constant_weights(self) -> Iterator[tuple[str, StoredTensor]]:
        """The weights that are held as codes, once each, with the name of their codes."""
        seen = set()
        for layer in self.layers:
            for place, weight in ((1, layer.weight), (2, layer.state_weight)):
                source = "" if weight is None else self._producer[layer.node.input[place]].input[0]
                if weight is not None and source not in seen:
                    seen.add(source)
                    yield source, weight

    def kind_of(self, name: str) -> DataType | None:
        """Return the type that a tensor is held in: a constant, codes, or what a DequantizeLinear gives.

        Codes of uint8 around 128 stand for what those of int8 around 0 do, and count as such. None for what is computed
        in float, and where the file does not tell.
        """
        if name in self._initializers:
            return _KINDS.get(self._initializers[name].data_type)
        node = self._producer.get(name)
        if node is None or node.op_type == "DynamicQuantizeLinear":
            return None if node is None else DataType.UINT8
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return None
        kind, zero = self._kind(node), self._constant(node.input[2]) if len(node.input) > 2 else None
        is_shifted = kind is DataType.UINT8 and zero is not None and bool((zero == _MIDDLE).all())
        return DataType.INT8 if is_shifted else kind

    def is_float_constant(self, name: str) -> bool:
        """Return whether a tensor is stored in float32."""
        return name in self._initializers and self._initializers[name].data_type == onnx.TensorProto.FLOAT

    def _layer(self, node: onnx.NodeProto) -> WrittenLayer:
        read, weight, third = (self._stored(name) for name in [*node.input, "", ""][:3])
        recurrent = node.op_type in RECURRENT_OPS
        behind = self._readers.get(node.output[0], [])
        activation = behind[0].op_type if len(behind) == 1 and behind[0].op_type in _ACTIVATIONS else ""
        if activation:
            behind = self._readers.get(behind[0].output[0], [])
        return WrittenLayer(
            node,
            read,
            weight if weight is not None and weight.codes is not None else None,
            None if recurrent else third,
            third if recurrent and third is not None and third.codes is not None else None,
            self._kind(behind[0]) if len(behind) == 1 and behind[0].op_type == "QuantizeLinear" else None,
            activation,
            self._producer[node.input[0]].name if node.input[0] in self._producer else "",
            tuple(reader.name for reader in behind),
        )

    def tensors_behind(self, node: onnx.NodeProto) -> Iterator[str]:
        """What a node writes, then what it would write if it took in one after the other that alone reads it."""
        yield node.output[0]
        readers = self._readers.get(node.output[0], [])
        while len(readers) == 1 and readers[0].op_type in _TAKEN_IN:
            yield readers[0].output[0]
            readers = self._readers.get(readers[0].output[0], [])

    def other_nodes(self) -> Iterator[onnx.NodeProto]:
        """Every node that is neither a layer nor half a pair nor a constant, in graph order."""
        for node in self.model.graph.node:
            is_constant = node.op_type == "Constant" or (node.op_type == "Cast" and node.input[0] in self._initializers)
            if not is_constant and node.op_type not in (*_LAYERS, "QuantizeLinear", "DequantizeLinear"):
                yield node

    def _stored(self, name: str) -> StoredTensor | None:
        node = self._producer.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        kind = self._kind(node)
        if kind is None:
            return None
        zero_name = node.input[2] if len(node.input) > 2 else ""
        scale, zero, codes = self._scale(node.input[1]), *map(self._constant, (zero_name, node.input[0]))
        return StoredTensor(
            node.name,
            kind,
            None if scale is None else scale.astype(np.float32),
            zero_name,
            np.zeros((), np.int64) if zero is None else zero.astype(np.int64),
            codes,
            integer_attribute(node, "block_size", 0),
        )

    def _kind(self, node: onnx.NodeProto) -> DataType | None:
        """The type of the codes that a node of a pair reads or writes: that of its zero point, or of constant codes."""
        for name in [*node.input[2:3], *(node.input[:1] if node.op_type == "DequantizeLinear" else ())]:
            if name in self._initializers:
                return _KINDS.get(self._initializers[name].data_type)
        if node.op_type == "DequantizeLinear" and (source := self._producer.get(node.input[0])) is not None:
            return self._kind(source) if source.op_type == "QuantizeLinear" else None
        return _KINDS.get(integer_attribute(node, "output_dtype", 0)) or DataType.UINT8

    def _scale(self, name: str) -> NDArray[np.generic] | None:
        """Return a constant scale, be it behind a Cast."""
        node = self._producer.get(name)
        return self._constant(node.input[0] if node is not None and node.op_type == "Cast" else name)

    def _constant(self, name: str) -> NDArray[np.generic] | None:
        tensor = self._initializers.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)
