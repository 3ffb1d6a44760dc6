"""The tensors of a float model that a written file holds as codes, by their names in the float model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.graph import integer_attribute
from quant_core.precision import DataType
from quant_core.runtimes.written_model import StoredTensor, WrittenModel

__all__ = ["EncodedTensor", "encoded_tensors"]


@dataclass(frozen=True)
class EncodedTensor:
    """One way in which a tensor is held."""

    name: str
    """In the float model."""
    kind: DataType
    """Type of the codes."""
    scale: NDArray[np.float32]
    """One value, or one a channel: a vector."""
    zero_point: NDArray[np.int64]
    """As many."""
    axis: int | None
    """That of the channels; None for one scale."""
    is_weight: bool
    """Whether it is a constant."""
    readers: tuple[str, ...]
    """Nodes that read it so."""

    @property
    def lowest_code(self) -> int:
        """The lowest value that a code can have."""
        return -(1 << (self.kind.bits - 1)) if self.kind.signed else 0


def encoded_tensors(model: WrittenModel, names: Collection[str]) -> dict[str, list[EncodedTensor]]:
    """Return how a file holds the tensors of a float model (`names`), the widest way first.

    Biases are left out, because their scales follow from those of inputs and weights, and so are weights in blocks.
    """
    found: dict[str, list[EncodedTensor]] = {}
    for one in _encoded(model, set(names)):
        ways = found.setdefault(one.name, [])
        if all(other.kind is not one.kind for other in ways):
            ways.append(one)
    return {name: sorted(ways, key=lambda way: -way.kind.bits) for name, ways in found.items()}


def _encoded(model: WrittenModel, names: set[str]) -> Iterator[EncodedTensor]:
    nodes = {node.name: node for node in model.model.graph.node}
    producer = {name: node for node in model.model.graph.node for name in node.output}
    for tensor in model.stored():
        node = nodes[tensor.node]
        name = _float_name(node, tensor, producer, names)
        if name is None or tensor.scale is None or tensor.kind is DataType.INT32 or tensor.block:
            continue
        scale = np.atleast_1d(tensor.scale)
        zero_point = np.broadcast_to(tensor.zero_point, scale.shape)
        axis = integer_attribute(node, "axis", 1) if tensor.scale.ndim else None
        readers = tuple(one.name for one in model.model.graph.node if node.output[0] in one.input)
        yield EncodedTensor(name, tensor.kind, scale, zero_point, axis, tensor.codes is not None, readers)


def _float_name(
    node: onnx.NodeProto, tensor: StoredTensor, producer: dict[str, onnx.NodeProto], names: set[str]
) -> str | None:
    """The name in the float model of what a DequantizeLinear gives; None of what is not there."""
    tried = [node.output[0], node.output[0].rpartition("/")[0]]
    if tensor.codes is None and node.input[0] in producer:
        tried.append(producer[node.input[0]].input[0])
    return next((name for name in tried if name in names), None)
