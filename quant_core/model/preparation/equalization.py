"""Cross-layer equalization: makes the channels of a weight alike in range, so that one scale suits them all.

Nagel, van Baalen, Blankevoort and Welling, "Data-free quantization through weight equalization and bias correction"
(ICCV 2019), section 4.1. Where what a layer writes reaches one other layer through nothing but operators that a
positive factor passes through, each channel of the first weight (and its bias) is divided by a factor, and that of
the second weight multiplied by it. With r1 and r2 the channel's largest magnitudes in the two weights, the factor
sqrt(r1 / r2) makes them equal. What the model computes stays as it was, up to rounding.

A factor passes through Relu, LeakyRelu and PRelu, pools, and what moves whole channels. Through a Clip from 0 on, as
in ReLU6, it passes when the upper bound follows: the Clip becomes a Relu and a Min with one bound a channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph, attribute, free_name, integer_attribute, outer_names

__all__ = ["equalized"]

Factors = NDArray[np.float64]

_SWEEPS = 200
_SETTLED = 1e-3
"""At most so many times over all pairs, or until no factor moves by more than this share: along a chain of depthwise
convolutions every pair shares a weight with the next, and they settle together."""


@dataclass(frozen=True)
class _Pair:
    """Two layers of which only the second reads what the first writes."""

    first: int
    """Index of the node that writes the channels."""
    path: tuple[int, ...]
    """Indices of the nodes between the two."""
    second: int
    """Index of the node that reads the channels."""
    channels: int
    """How many there are."""
    repeats: int
    """Inputs of the second layer that belong to one channel: more than one where images are flattened."""


def equalized(graph: FloatGraph) -> onnx.ModelProto:
    """The model with the channels of all pairs of layers equalized; tensors and nodes keep their names."""
    pairs = list(_pairs(graph))
    factors = _factors(graph, pairs)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    changed: dict[str, NDArray[np.float64]] = {}
    bounds: dict[int, Factors] = {}
    for pair, factor in zip(pairs, factors, strict=True):
        _scale(graph, changed, pair.first, 1 / factor, _written_channels(graph, pair.first))
        _scale(graph, changed, pair.second, factor, _read_channels(graph, pair.second, pair.repeats), bias=False)
        bounds |= {index: 1 / factor for index in pair.path if graph.nodes[index].op_type == "Clip"}
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed[tensor.name].astype(np.float32), tensor.name))
    _split_clips(graph, model, bounds)
    return model


def _pairs(graph: FloatGraph) -> Iterator[_Pair]:
    """Every pair of layers that can be equalized, in graph order."""
    for index in range(len(graph.nodes)):
        if _owns_weight(graph, index) and _bias_scales(graph, index):
            channels = _written_channels(graph, index).max() + 1
            path = list(_path(graph, index))
            repeats = _repeats(graph, index, path, int(channels)) if path else None
            if repeats and _owns_weight(graph, path[-1]):
                yield _Pair(index, tuple(path[:-1]), path[-1], int(channels), repeats)


def _owns_weight(graph: FloatGraph, index: int) -> bool:
    """Return whether a node is a layer with a constant weight that nothing else reads."""
    node = graph.nodes[index]
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or attribute(node, "transA", 0):
        return False
    weight = node.input[1]
    ranked = node.op_type != "MatMul" or len(graph.shape(weight) or ()) == 2
    return ranked and graph.is_float_constant(weight) and len(graph.readers[weight]) == 1


def _bias_scales(graph: FloatGraph, index: int) -> bool:
    """Return whether a node has no bias, or one with a value for each channel that nothing else reads."""
    node = graph.nodes[index]
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = node.input[2]
    size = math.prod(graph.initializers[bias].dims) if graph.is_float_constant(bias) else 0
    return size == _written_channels(graph, index).max() + 1 and len(graph.readers[bias]) == 1


def _path(graph: FloatGraph, index: int) -> Iterator[int]:
    """The nodes a layer's output goes through, and last the layer that reads it; nothing where there is none."""
    found = []
    while (reader := _only_reader(graph, index)) is not None:
        found.append(reader)
        if graph.nodes[reader].op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            yield from found
            return
        if not _passes(graph, reader):
            return
        index = reader


def _only_reader(graph: FloatGraph, index: int) -> int | None:
    """The node that alone reads what a node writes, as its first input."""
    name = graph.nodes[index].output[0]
    places = graph.readers.get(name, ())
    if name in graph.named_outside or len(places) != 1 or places[0][1] != 0 or len(graph.nodes[index].output) != 1:
        return None
    return places[0][0]


_ELEMENTWISE = frozenset(["Relu", "LeakyRelu", "Identity"])
_WITHIN_CHANNELS = frozenset(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
_FLATTENING = frozenset(["Flatten", "Reshape", "Squeeze", "ReduceMean"])


def _passes(graph: FloatGraph, index: int) -> bool:
    """Return whether a positive factor of a channel comes out of a node as it went in."""
    node = graph.nodes[index]
    if node.op_type in _ELEMENTWISE | _WITHIN_CHANNELS:
        return True
    if node.op_type in _FLATTENING:
        return _keeps_channels(graph, node)
    if node.op_type == "PRelu":
        return graph.is_float_constant(node.input[1]) and bool((graph.constant(node.input[1]) >= 0).all())  # type: ignore[operator]
    return node.op_type == "Clip" and _clips_from_zero(graph, node)


def _keeps_channels(graph: FloatGraph, node: onnx.NodeProto) -> bool:
    """Return whether images [N, C, ...] become [N, C * k, ...] channel by channel."""
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    if before is None or after is None or len(before) < 2 or len(after) < 2:
        return False
    if node.op_type == "ReduceMean":
        return _reduced_axes(graph, node, len(before)) == set(range(2, len(before)))
    inner, outer = ([size for size in shape[1:] if size] for shape in (before, after))
    whole = len(inner) == len(before) - 1 and len(outer) == len(after) - 1
    return whole and math.prod(inner) == math.prod(outer) and outer[0] % inner[0] == 0


def _reduced_axes(graph: FloatGraph, node: onnx.NodeProto, rank: int) -> set[int]:
    """Axes that a reduction takes away; none where they are computed."""
    if len(node.input) < 2:
        axes = np.asarray(attribute(node, "axes", []), np.int64)
    elif node.input[1] in graph.initializers:
        axes = np.asarray(graph.constant(node.input[1]), np.int64)
    else:
        axes = np.zeros(0, np.int64)
    return {int(axis) % rank for axis in axes.ravel()}


def _clips_from_zero(graph: FloatGraph, node: onnx.NodeProto) -> bool:
    bounds = node.input[1:3]
    if graph.shape(node.input[0]) is None or len(bounds) < 2 or not all(map(graph.is_float_constant, bounds)):
        return False
    low, high = (float(np.asarray(graph.constant(name)).reshape(())) for name in bounds)
    return low == 0 and high > 0


def _repeats(graph: FloatGraph, first: int, path: Sequence[int], channels: int) -> int | None:
    """Inputs of the last layer of a path that belong to one channel; None where the channels are not its inputs."""
    between = {graph.nodes[index].op_type for index in path[:-1]}
    shape = graph.shape(graph.nodes[first].output[0]) or ()
    if graph.nodes[first].op_type == "MatMul" and len(shape) != 2:  # its channels are along the last axis
        return 1 if graph.nodes[path[-1]].op_type == "MatMul" and between <= _ELEMENTWISE else None
    if graph.nodes[path[-1]].op_type == "MatMul" and len(graph.shape(graph.nodes[path[-1]].input[0]) or ()) != 2:
        return None
    inputs = int(_read_channels(graph, path[-1], 1).max()) + 1
    return None if inputs % channels else inputs // channels


def _written_channels(graph: FloatGraph, index: int) -> NDArray[np.int64]:
    """Return the number of the channel that each value helps to write, for the first two axes of a layer's weight."""
    node, rows, columns, group = _geometry(graph, index)
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return np.repeat(np.arange(rows)[:, None], columns, axis=1)
    per_group = rows // group  # one group but for a ConvTranspose, whose second axis holds the channels of one
    return np.arange(rows)[:, None] // per_group * columns + np.arange(columns)[None, :]


def _read_channels(graph: FloatGraph, index: int, repeats: int) -> NDArray[np.int64]:
    """Return the number of the channel that each value is multiplied by, for the first two axes of a layer's weight."""
    node, rows, columns, group = _geometry(graph, index)
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        per_group = rows // group
        return (np.arange(rows)[:, None] // per_group * columns + np.arange(columns)[None, :]) // repeats
    return np.repeat(np.arange(rows)[:, None], columns, axis=1) // repeats


def _geometry(graph: FloatGraph, index: int) -> tuple[onnx.NodeProto, int, int, int]:
    """A layer's node, the first two dimensions of its weight, and its number of groups."""
    node = graph.nodes[index]
    rows, columns = graph.initializers[node.input[1]].dims[:2]
    return node, rows, columns, integer_attribute(node, "group", 1)


def _factors(graph: FloatGraph, pairs: Sequence[_Pair]) -> list[Factors]:
    """Return the factor of every channel of each pair, once all pairs together have settled."""
    magnitudes = {index: _magnitudes(graph, index) for pair in pairs for index in (pair.first, pair.second)}
    sides = [(_written_channels(graph, pair.first), _read_channels(graph, pair.second, pair.repeats)) for pair in pairs]
    factors = [np.ones(pair.channels) for pair in pairs]
    for _ in range(_SWEEPS):
        moved = 0.0
        for number, (pair, (written, read)) in enumerate(zip(pairs, sides, strict=True)):
            step = _step(magnitudes[pair.first], written, magnitudes[pair.second], read, pair.channels)
            magnitudes[pair.first] = magnitudes[pair.first] / step[written]
            magnitudes[pair.second] = magnitudes[pair.second] * step[read]
            factors[number] = factors[number] * step
            moved = max(moved, float(np.abs(np.log(step)).max()))
        if moved < _SETTLED:
            break
    return factors


def _magnitudes(graph: FloatGraph, index: int) -> Factors:
    """The largest magnitude of a weight for each place along its first two axes."""
    values = np.abs(np.asarray(graph.constant(graph.nodes[index].input[1]), np.float64))
    return np.asarray(values.reshape(*values.shape[:2], -1).max(axis=2))


def _step(
    first: Factors, written: NDArray[np.int64], second: Factors, read: NDArray[np.int64], channels: int
) -> Factors:
    """The factor that makes a channel's range the same in both weights; 1 for a channel that is zero in one."""
    ranges = np.zeros((2, channels))
    np.maximum.at(ranges[0], written, first)
    np.maximum.at(ranges[1], read, second)
    alive = (ranges > 0).all(axis=0)
    ratio = np.divide(ranges[0], ranges[1], out=np.ones(channels), where=alive)
    return np.asarray(np.sqrt(ratio))


def _scale(
    graph: FloatGraph,
    changed: dict[str, NDArray[np.float64]],
    index: int,
    factor: Factors,
    channels: NDArray[np.int64],
    bias: bool = True,
) -> None:
    """Multiply a layer's weight, and its bias, by the factor of each channel."""
    node = graph.nodes[index]
    weight = changed.get(node.input[1], np.asarray(graph.constant(node.input[1]), np.float64))
    spread = factor[channels]
    changed[node.input[1]] = weight * spread.reshape(spread.shape + (1,) * (weight.ndim - 2))
    if bias and len(node.input) > 2 and node.input[2]:
        values = np.asarray(graph.constant(node.input[2]), np.float64)
        changed[node.input[2]] = values * factor.reshape(values.shape)


def _split_clips(graph: FloatGraph, model: onnx.ModelProto, factors: Mapping[int, Factors]) -> None:
    """Write each Clip as a Relu and a Min with the bound of each channel."""
    nodes: list[onnx.NodeProto] = []
    taken = {name for node in model.graph.node for name in [node.name, *node.input, *node.output, *outer_names(node)]}
    taken |= set(graph.initializers) | set(graph.inputs)
    for index, node in enumerate(model.graph.node):
        if index not in factors:
            nodes.append(node)
            continue
        high = float(np.asarray(graph.constant(node.input[2])).reshape(()))
        shape = graph.shape(node.input[0]) or ()
        spread = np.repeat(factors[index], (shape[1] or len(factors[index])) // len(factors[index]))
        bound = (high * spread).astype(np.float32).reshape(1, -1, *[1] * (len(shape) - 2))
        name = free_name(f"{node.output[0]}/bound", taken)
        model.graph.initializer.append(onnx.numpy_helper.from_array(bound, name))
        written = free_name(f"{node.output[0]}/relu", taken)
        relu = onnx.helper.make_node("Relu", [node.input[0]], [written], name=free_name(f"{node.name}/relu", taken))
        nodes += [relu, onnx.helper.make_node("Min", [relu.output[0], name], [node.output[0]], name=node.name)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
