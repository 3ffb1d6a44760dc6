"""How far each layer of a file would be off on x86 processors without VNNI, emulated in integer arithmetic.

There a product of unsigned activations and signed weights is added up in pairs, and each pair saturates in 16 bits (see
`byte_sums`). So it is done here with the codes that each layer reads, whatever this processor does. Signed activations
are made unsigned first, by adding 128, as ONNX Runtime does; weights stand in the order in which it reads them: the
channels of a position one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph, attribute, integer_attribute
from quant_core.precision import DataType
from quant_core.runtimes.byte_sums import is_depthwise
from quant_core.runtimes.layer_errors import captured
from quant_core.runtimes.written_model import WrittenLayer, WrittenModel

__all__ = ["layer_saturation", "saturated_products"]

_ROWS = 512
"""Of a layer's results, positions that are looked at: evenly spread."""
_LOW, _HIGH = -(1 << 15), (1 << 15) - 1

Codes = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.generic]]


def layer_saturation(graph: FloatGraph, feeds: Arrays) -> dict[str, float]:
    """By layer: how far its result would be off, as a share of its magnitude; 0 where no sum saturates.

    Those with int8 weights beside 8-bit activations are in it, but for transposed convolutions and for stacks of
    matrices, which have other kernels, and for depthwise ones, which do not saturate.
    """
    return dict(_found(graph, feeds))


def _found(graph: FloatGraph, feeds: Arrays) -> Iterator[tuple[str, float]]:
    layers = [layer for layer in WrittenModel(graph.model).products if _may_saturate(layer)]
    sources = {layer.node.name: _codes_name(graph, layer) for layer in layers}
    given = captured(graph, feeds, [name for name in dict.fromkeys(sources.values()) if name not in graph.initializers])
    for layer in layers:
        source = sources[layer.node.name]
        codes = given[source] if source in given else graph.constant(source)
        yield layer.node.name, _error(layer, np.asarray(codes).astype(np.int64))


def _may_saturate(layer: WrittenLayer) -> bool:
    weight, read = layer.weight, layer.reads
    if weight is None or weight.codes is None or weight.kind is not DataType.INT8 or weight.block:
        return False
    if read is None or not layer.has_8_bit_input or weight.scale is None:
        return False
    if layer.node.op_type == "Conv":
        group = integer_attribute(layer.node, "group", 1)
        return not is_depthwise("Conv", weight.codes, group)
    return layer.node.op_type in ("Gemm", "MatMul") and weight.codes.ndim == 2


def _codes_name(graph: FloatGraph, layer: WrittenLayer) -> str:
    return str(graph.nodes[graph.producer[layer.node.input[0]]].input[0])


def _error(layer: WrittenLayer, codes: Codes) -> float:
    assert layer.reads is not None and layer.weight is not None and layer.weight.scale is not None
    shift = 128 if layer.reads.kind.signed else 0
    zero = int(np.ravel(layer.reads.zero_point)[0]) + shift
    error, size = 0.0, 0.0
    scale = np.ravel(layer.weight.scale).astype(np.float64)
    for group, (rows, weights) in enumerate(_operands(layer, codes + shift, zero)):
        saturated, exact = saturated_products(rows, weights)
        real = exact - zero * weights.sum(axis=0)
        outputs = weights.shape[1]
        own = scale if scale.size == 1 else scale[group * outputs : (group + 1) * outputs]
        error += float((((saturated - exact) * own) ** 2).sum())
        size += float(((real * own) ** 2).sum())
    return float(np.sqrt(error / size)) if size else 0.0


def saturated_products(rows: Codes, weights: Codes) -> tuple[Codes, Codes]:
    """Products of unsigned rows [positions, inputs] and weights [inputs, outputs], saturating in pairs, and exact."""
    exact, saturated = rows @ weights, np.zeros((len(rows), weights.shape[1]), np.int64)
    for at in range(0, rows.shape[1], 2):
        saturated += np.clip(rows[:, at : at + 2] @ weights[at : at + 2], _LOW, _HIGH)
    return saturated, exact


def _operands(layer: WrittenLayer, codes: Codes, zero: int) -> Iterator[tuple[Codes, Codes]]:
    """Yield what is multiplied: positions [n, inputs] and weights [inputs, outputs], once a group."""
    assert layer.weight is not None and layer.weight.codes is not None
    weights = layer.weight.codes.astype(np.int64)
    if layer.node.op_type != "Conv":
        left = codes.T if attribute(layer.node, "transA", 0) else codes
        yield _spread(left.reshape(-1, left.shape[-1])), weights.T if attribute(layer.node, "transB", 0) else weights
        return
    groups = integer_attribute(layer.node, "group", 1)
    patches = _patches(layer.node, codes, weights.shape[2:], zero)
    channels = np.split(patches, groups, axis=-1)
    for own, kernels in zip(channels, np.split(weights, groups), strict=True):
        rows = own.reshape(len(own), -1)
        yield rows, np.moveaxis(kernels, 1, -1).reshape(len(kernels), -1).T


def _spread(rows: Codes) -> Codes:
    kept: Codes = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).astype(int))]
    return kept


def _patches(node: onnx.NodeProto, codes: Codes, kernel: tuple[int, ...], zero: int) -> Codes:
    """Return what a convolution reads at some positions, shape [positions, *kernel, channels]."""
    dims = len(kernel)
    strides, dilations = (_integers(node, name, [1] * dims) for name in ("strides", "dilations"))
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    pads = _pads(node, codes.shape[2:], strides, reach)
    padded = np.pad(codes, [(0, 0), (0, 0), *pads], constant_values=zero)
    windows = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + dims)))
    every = (slice(None), slice(None), *(slice(None, None, step) for step in strides))
    windows = windows[every + tuple(slice(None, None, step) for step in dilations)]
    moved = np.moveaxis(windows, 1, -1).reshape(-1, *kernel, codes.shape[1])
    return _spread(moved)


def _integers(node: onnx.NodeProto, name: str, default: list[int]) -> list[int]:
    found = next((list(one.ints) for one in node.attribute if one.name == name), default)
    return found or default


def _pads(node: onnx.NodeProto, sizes: tuple[int, ...], strides: list[int], reach: list[int]) -> list[tuple[int, int]]:
    how = next((one.s.decode() for one in node.attribute if one.name == "auto_pad"), "NOTSET")
    if not how.startswith("SAME"):
        pads = _integers(node, "pads", [0] * 2 * len(sizes))
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    missing = [
        max((-(-size // step) - 1) * step + far - size, 0)
        for size, step, far in zip(sizes, strides, reach, strict=True)
    ]
    halves = [(total // 2, total - total // 2) for total in missing]
    return halves if how == "SAME_UPPER" else [(after, before) for before, after in halves]
