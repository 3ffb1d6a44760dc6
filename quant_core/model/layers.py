"""The layers of a model, and what each costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
import pyarrow as pa

from quant_core.model.graph import FloatGraph, attribute
from quant_core.model.operators import (
    DEFAULT_LAYER_OPS,
    PRODUCT_OPS,
    RECURRENT_OPS,
    TABLE_OP,
    Role,
    role_of,
    weight_inputs,
)
from quant_core.model.selection import is_left_in_float
from quant_core.model.sizes import Sizes
from quant_core.model.weight_axes import output_axis
from quant_core.precision import DataType, Precision
from quant_core.storage.schemas import LAYERS

__all__ = ["Layer", "find_layers", "layer_table", "layers_from_table"]


@dataclass(frozen=True)
class Layer:
    """One unit of the search: a node, or all nodes that share a weight, be it the table of a Gather.

    One without weights (an Add, a pool) has no multiply-accumulates, and no use for a precision's type of weights.
    """

    name: str
    """Name of its first node."""
    op: str
    """Operator type."""
    nodes: tuple[int, ...]
    """Indices of its nodes in the prepared graph, ascending."""
    activations: tuple[str, ...]
    """Float tensors it reads that are not constants."""
    weights: tuple[str, ...]
    """Names of its constant weights: one of a product, or none where both operands are activations. A recurrent node
    has one for what it reads and one for its state."""
    weight_shapes: tuple[tuple[int, ...], ...]
    """Dimensions of each weight."""
    macs: int
    """Multiply-accumulates for one sample, all its nodes together."""
    activation_elements: int
    """Values of the tensors it reads, for one sample."""
    channels: int = 1
    """Scales of all its weights, with one for each output channel; 1 without a weight."""
    biases: int = 0
    """Of its nodes, those with a constant bias."""
    state_macs: int = 0
    """Those of the multiply-accumulates that are with a recurrent node's state."""

    @property
    def weight(self) -> str | None:
        """Name of its only weight; None without one, or with several."""
        return self.weights[0] if len(self.weights) == 1 else None

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Dimensions of its only weight; empty without one, or with several."""
        return self.weight_shapes[0] if len(self.weights) == 1 else ()

    @property
    def weight_elements(self) -> int:
        """Number of values of all its weights."""
        return sum(map(math.prod, self.weight_shapes))

    def bit_operations(self, precision: Precision) -> int:
        """Multiply-accumulates x bits of an activation x bits of what it meets: a weight, or another activation.

        States are float32 at every precision.
        """
        met = precision.weights if self.weights else precision.activations
        read = (self.macs - self.state_macs) * precision.activations.bits
        return (read + self.state_macs * DataType.FLOAT32.bits) * met.bits


def find_layers(
    graph: FloatGraph, layer_ops: Iterable[str] = DEFAULT_LAYER_OPS, sizes: Sizes | None = None
) -> list[Layer]:
    """Every layer of the graph in graph order. Nodes that share a weight are one layer.

    Costs follow from the `sizes` that data have, or else from declared shapes.
    """
    ops = frozenset(layer_ops)
    found = [index for index, node in enumerate(graph.nodes) if node.op_type in ops and _is_layer(graph, node, ops)]
    return [_layer(graph, nodes, sizes) for nodes in _sharing(graph, found)]


def _sharing(graph: FloatGraph, indices: Iterable[int]) -> list[list[int]]:
    """Nodes grouped by the weights they share, each group in graph order, the groups by their first nodes."""
    groups: dict[int, list[int]] = {}
    first_of: dict[str, int] = {}
    for index in indices:
        weights = _weights_of(graph, graph.nodes[index])
        firsts = sorted({first_of[name] for name in weights if name in first_of} | {index})
        groups[firsts[0]] = [node for first in firsts for node in groups.pop(first, [index])]
        first_of.update((name, firsts[0]) for name in weights)
        if len(firsts) > 2:  # this node joins groups that had nothing in common
            first_of.update((name, firsts[0]) for name, first in first_of.items() if first in firsts)
    return [sorted(groups[first]) for first in sorted(groups)]


def _is_layer(graph: FloatGraph, node: onnx.NodeProto, ops: frozenset[str]) -> bool:
    """Return whether a node of the layers' operators is one: it reads floats, or rows of a constant table."""
    if is_left_in_float(node) or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == TABLE_OP:
        is_table = graph.is_float_constant(node.input[0]) and len(graph.initializers[node.input[0]].dims) == 2
        return is_table and attribute(node, "axis", 0) == 0
    role = role_of(node.op_type, node.domain, ops)
    if role is Role.RECURRENT and not all(map(graph.is_float_constant, node.input[1:3])):
        return False
    return role in (Role.LAYER, Role.RECURRENT, Role.COMPUTE) and bool(_read_floats(graph, node))


def _read_floats(graph: FloatGraph, node: onnx.NodeProto) -> list[str]:
    """Tensors a node reads as values: not its parameters, among them a layer's bias."""
    operands = node.input[:2] if node.op_type in (*DEFAULT_LAYER_OPS, TABLE_OP) else node.input
    return [name for name in operands if graph.is_float_activation(name)]


def _weights_of(graph: FloatGraph, node: onnx.NodeProto) -> list[str]:
    read = node.input
    places = [place for place in weight_inputs(node.op_type) if place < len(read)]
    return [read[place] for place in places if graph.is_float_constant(read[place])]


def _layer(graph: FloatGraph, nodes: list[int], sizes: Sizes | None) -> Layer:
    first = graph.nodes[nodes[0]]
    weights = tuple(dict.fromkeys(name for index in nodes for name in _weights_of(graph, graph.nodes[index])))
    read = [name for index in nodes for name in _read_floats(graph, graph.nodes[index])]
    return Layer(
        name=first.name,
        op=first.op_type,
        nodes=tuple(nodes),
        activations=tuple(dict.fromkeys(read)),
        weights=weights,
        weight_shapes=tuple(tuple(graph.initializers[weight].dims) for weight in weights),
        macs=sum(_macs(graph, index, sizes) for index in nodes),
        activation_elements=sum(_elements(graph, name, sizes) for name in dict.fromkeys(read)),
        channels=sum(_channels(graph, nodes, weight) for weight in weights) or 1,
        biases=sum(_has_bias(graph, graph.nodes[index]) for index in nodes),
        state_macs=sum(_state_macs(graph, index, sizes) for index in nodes),
    )


def _channels(graph: FloatGraph, nodes: Iterable[int], weight: str) -> int:
    """Output channels of a weight; 1 of a vector, and where nodes do not agree on their axis."""
    shape = graph.initializers[weight].dims
    if len(shape) == 1:
        return 1
    axes = {output_axis(graph.nodes[index], weight, len(shape)) for index in nodes}
    return shape[axes.pop()] if len(axes) == 1 else 1


def _has_bias(graph: FloatGraph, node: onnx.NodeProto) -> bool:
    return node.op_type in PRODUCT_OPS and len(node.input) > 2 and graph.is_float_constant(node.input[2])


def _elements(graph: FloatGraph, name: str, sizes: Sizes | None) -> int:
    """Values of a tensor for one sample."""
    if sizes is None or not all(name in shapes for _, shapes in sizes.shapes):
        return _product((graph.shape(name) or ())[1:])
    return round(sum(share * _product(shapes[name]) for share, shapes in sizes.shapes) / sizes.batch)


def _macs(graph: FloatGraph, index: int, sizes: Sizes | None) -> int:
    """Multiply-accumulates of one node for one sample."""
    node = graph.nodes[index]
    if node.op_type in RECURRENT_OPS:
        return round(_steps(graph, node, sizes) * sum(_product(graph.shape(name) or ()) for name in node.input[1:3]))
    if sizes is None or node.op_type not in PRODUCT_OPS:
        return _declared_macs(graph, index)
    macs = sum(share * _seen_macs(graph, node, shapes) for share, shapes in sizes.shapes)
    # What reads no samples is computed once for a batch, however many there are.
    return round(macs / sizes.batch)


def _state_macs(graph: FloatGraph, index: int, sizes: Sizes | None) -> int:
    """Multiply-accumulates of one node with its state, for one sample."""
    node = graph.nodes[index]
    if node.op_type not in RECURRENT_OPS:
        return 0
    return round(_steps(graph, node, sizes) * _product(graph.shape(node.input[2]) or ()))


def _steps(graph: FloatGraph, node: onnx.NodeProto, sizes: Sizes | None) -> float:
    """Steps of a recurrent node for one sample: each multiplies by all weights."""
    if sizes is not None:
        return sum(share * _product(shapes[node.input[0]][:2]) for share, shapes in sizes.shapes) / sizes.batch
    return _product((graph.shape(node.input[0]) or ())[:1])


def _seen_macs(graph: FloatGraph, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a node for a batch of these shapes."""
    left, right = (shapes.get(name) or _known(graph, name) for name in node.input[:2])
    written = shapes.get(node.output[0], ())
    if node.op_type in ("Conv", "ConvTranspose"):
        anchor = written if node.op_type == "Conv" else left
        return _product(right) * _product(anchor[2:]) * (anchor[0] if anchor else 1)
    inner = left[0 if attribute(node, "transA", 0) else -1] if left else 1
    return _product(written) * inner


def _known(graph: FloatGraph, name: str) -> tuple[int, ...]:
    return tuple(dim or 1 for dim in graph.shape(name) or ())


def _declared_macs(graph: FloatGraph, index: int) -> int:
    """Multiply-accumulates of one node for one sample; dynamic dimensions count as 1."""
    node = graph.nodes[index]
    if node.op_type not in PRODUCT_OPS:
        return 0
    left, right = (graph.shape(name) or () for name in node.input[:2])
    if node.op_type in ("Conv", "ConvTranspose"):
        # Every weight meets each position of the output (Conv) or of the input (ConvTranspose) once.
        anchor = graph.shape(node.output[0] if node.op_type == "Conv" else node.input[0]) or ()
        return _product(right) * _product(anchor[2:])
    inner = left[0 if attribute(node, "transA", 0) else -1] if left else None
    outer = list(graph.shape(node.output[0]) or ())
    if node.input[0] not in graph.initializers and outer:
        outer[0] = 1  # the batch
    return _product(outer) * (inner or 1)


def _product(dims: Iterable[int | None]) -> int:
    return math.prod(dim or 1 for dim in dims)


def layer_table(layers: Iterable[Layer]) -> pa.Table:
    """The layers as a table of schema LAYERS."""
    rows = [
        {
            "layer": layer.name,
            "op": layer.op,
            "nodes": list(layer.nodes),
            "activations": list(layer.activations),
            "weights": list(layer.weights),
            "weight_shapes": list(map(list, layer.weight_shapes)),
            "macs": layer.macs,
            "state_macs": layer.state_macs,
            "activation_elements": layer.activation_elements,
            "weight_bytes": 4 * layer.weight_elements,
            "channels": layer.channels,
            "biases": layer.biases,
        }
        for layer in layers
    ]
    return pa.Table.from_pylist(rows, schema=LAYERS)


def layers_from_table(table: pa.Table) -> list[Layer]:
    """The inverse of `layer_table`."""
    return [
        Layer(
            name=row["layer"],
            op=row["op"],
            nodes=tuple(row["nodes"]),
            activations=tuple(row["activations"]),
            weights=tuple(row["weights"]),
            weight_shapes=tuple(map(tuple, row["weight_shapes"])),
            macs=row["macs"],
            activation_elements=row["activation_elements"],
            channels=row.get("channels") or 1,
            biases=row.get("biases") or 0,
            state_macs=row["state_macs"],
        )
        for row in table.to_pylist()
    ]
