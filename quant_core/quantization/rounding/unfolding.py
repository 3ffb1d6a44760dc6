"""A layer as a product of matrices: its weight as rows, what it reads as columns.

Methods that choose a weight's codes for the layer's output work on that product, whatever the operator. A
convolution becomes one product a group (im2col).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.data.padding import RealPlaces, rows_of
from quant_core.model.graph import FloatGraph, attribute, integer_attribute
from quant_core.model.layers import Layer

__all__ = ["Unfolding", "unfolding_of"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Unfolding:
    """How the weight and the input of a Conv, Gemm or MatMul unfold."""

    layer: Layer
    """The layer; all its nodes multiply alike."""
    groups: int
    """Independent products: the groups of a convolution, else 1."""
    width: int
    """Values that make up one output value: what a row of the weight and a column of the input hold."""
    transposed: bool
    """Whether the weight's last axis is that of the outputs (MatMul, Gemm without transB)."""

    @property
    def outputs(self) -> int:
        """Output values of all groups together."""
        return self.layer.weight_elements // self.width

    def rows(self, weight: NDArray[Scalar]) -> NDArray[Scalar]:
        """The weight, or one value for each of its own, as [groups, outputs of a group, width]."""
        matrix = weight.T if self.transposed else weight.reshape(len(weight), -1)
        return matrix.reshape(self.groups, -1, self.width)

    def folded(self, rows: NDArray[Scalar]) -> NDArray[Scalar]:
        """The inverse of `rows`."""
        matrix = rows.reshape(-1, self.width)
        return np.asarray(matrix.T if self.transposed else matrix.reshape(self.layer.weight_shape))

    def columns(
        self, node: onnx.NodeProto, values: NDArray[np.float32], wanted: int, real: RealPlaces | None = None
    ) -> NDArray[np.float32]:
        """About `wanted` columns, evenly spread, of what the node reads: [groups, columns, width].

        Only those of `real` places where the node reads such.
        """
        if node.op_type != "Conv":
            return _some_rows(values, wanted, real)[None]
        windows = _windows(node, values, self.layer.weight_shape[2:])
        positions = windows.shape[: values.ndim - 1]
        places = _spread(math.prod(positions), wanted)
        found = windows[np.unravel_index(places, positions)]
        return np.ascontiguousarray(found.reshape(len(places), self.groups, self.width).transpose(1, 0, 2))

    def results(
        self, node: onnx.NodeProto, values: NDArray[np.float32], wanted: int, real: RealPlaces | None = None
    ) -> NDArray[np.float32]:
        """Return the results of those columns, [groups, columns, outputs of a group], from all that the node writes."""
        found = _some_rows(np.moveaxis(values, 1, -1) if node.op_type == "Conv" else values, wanted, real)
        return found.reshape(len(found), self.groups, -1).transpose(1, 0, 2)


def _some_rows(values: NDArray[np.float32], wanted: int, real: RealPlaces | None) -> NDArray[np.float32]:
    """About `wanted` rows along the last axis, evenly spread over those of real places."""
    rows, kept = values.reshape(-1, values.shape[-1]), rows_of(real, values.shape)
    if kept is None:
        return rows[_spread(len(rows), wanted)]
    return rows[kept[_spread(len(kept), wanted)]]


def _spread(count: int, wanted: int) -> NDArray[np.int64]:
    """About `wanted` of so many places, evenly spread."""
    return np.arange(0, count, max(count // wanted, 1))


def _windows(node: onnx.NodeProto, values: NDArray[np.float32], kernel: Sequence[int]) -> NDArray[np.float32]:
    """Return what a convolution sees, a view: [samples, *output positions, channels, *kernel]."""
    rank = len(kernel)
    strides, dilations = (_numbers(node, name, [1] * rank) for name in ("strides", "dilations"))
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    pads = _pads(node, values.shape[2:], reach, strides)
    padded = np.pad(values, [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    every = tuple(slice(None, None, step) for step in (*strides, *dilations))
    return np.moveaxis(windows[(slice(None), slice(None), *every)], 1, 1 + rank)


def _pads(
    node: onnx.NodeProto, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return what a convolution adds before and after each axis."""
    rank, automatic = len(sizes), attribute(node, "auto_pad", b"NOTSET")
    if automatic not in (b"SAME_UPPER", b"SAME_LOWER"):  # VALID has none, like the attribute's default
        pads = _numbers(node, "pads", [0] * 2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    found = []
    for size, span, step in zip(sizes, reach, strides, strict=True):
        total = max((math.ceil(size / step) - 1) * step + span - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if automatic == b"SAME_UPPER" else (more, less))
    return found


def _numbers(node: onnx.NodeProto, name: str, default: list[int]) -> list[int]:
    found = attribute(node, name, default)
    return list(found) if isinstance(found, list) else default


def unfolding_of(graph: FloatGraph, layer: Layer) -> Unfolding | None:
    """Return how a layer unfolds; None of one that does not: without a weight, transposed, or with it on the left."""
    if layer.weight is None:
        return None
    forms = {_form(graph.nodes[index], layer) for index in layer.nodes}
    if len(forms) > 1:
        return None
    form = forms.pop()
    if form is None:
        return None
    groups, transposed = form
    width = layer.weight_shape[0] if transposed else math.prod(layer.weight_shape[1:])
    return Unfolding(layer, groups, width, transposed)


def _form(node: onnx.NodeProto, layer: Layer) -> tuple[int, bool] | None:
    """(groups, whether the weight's last axis is that of the outputs) of a node."""
    if node.input[1] != layer.weight or node.input[0] == layer.weight:
        return None
    if node.op_type == "Conv":
        return integer_attribute(node, "group", 1), False
    if node.op_type == "MatMul":
        return (1, True) if len(layer.weight_shape) == 2 else None
    if node.op_type == "Gemm" and not attribute(node, "transA", 0):
        return 1, not attribute(node, "transB", 0)
    return None
