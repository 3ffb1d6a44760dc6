"""The layers of a model, and what each costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
import pyarrow as pa

from quant_core.model.graph import FloatGraph, attribute
from quant_core.model.operators import DEFAULT_LAYER_OPS, TABLE_OP, Role, role_of
from quant_core.model.selection import is_left_in_float
from quant_core.model.sizes import Sizes
from quant_core.model.weight_axes import output_axis
from quant_core.precision import Precision
from quant_core.storage.tables import LAYERS

__all__ = ["Layer", "find_layers", "layer_table", "layers_from_table"]


@dataclass(frozen=True)
class Layer:
    """One unit of the search: a node, or all nodes that share one weight, be it the table of a Gather.

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
    weight: str | None
    """Name of its constant weight; None when both operands are activations."""
    weight_shape: tuple[int, ...]
    """Dimensions of the weight; empty without one."""
    macs: int
    """Multiply-accumulates for one sample, all its nodes together."""
    activation_elements: int
    """Values of the tensors it reads, for one sample."""
    channels: int = 1
    """Scales of its weight, with one for each output channel; 1 without a weight."""
    biases: int = 0
    """Of its nodes, those with a constant bias."""

    @property
    def weight_elements(self) -> int:
        """Number of weight values."""
        return math.prod(self.weight_shape) if self.weight else 0

    def bit_operations(self, precision: Precision) -> int:
        """Multiply-accumulates x bits of an activation x bits of what it meets: a weight, or another activation."""
        met = precision.weights if self.weight else precision.activations
        return self.macs * precision.activations.bits * met.bits


def find_layers(
    graph: FloatGraph, layer_ops: Iterable[str] = DEFAULT_LAYER_OPS, sizes: Sizes | None = None
) -> list[Layer]:
    """Every layer of the graph in graph order. Nodes that read the same weight are one layer.

    Costs follow from the `sizes` that data have, or else from declared shapes.
    """
    ops = frozenset(layer_ops)
    groups: dict[str, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        if node.op_type in ops and _is_layer(graph, node, ops):
            groups.setdefault(_weight_of(graph, node) or f"node {index}", []).append(index)
    return [_layer(graph, nodes, sizes) for nodes in groups.values()]


def _is_layer(graph: FloatGraph, node: onnx.NodeProto, ops: frozenset[str]) -> bool:
    """Return whether a node of the layers' operators is one: it reads floats, or rows of a constant table."""
    if is_left_in_float(node) or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == TABLE_OP:
        is_table = graph.is_float_constant(node.input[0]) and len(graph.initializers[node.input[0]].dims) == 2
        return is_table and attribute(node, "axis", 0) == 0
    role = role_of(node.op_type, node.domain, ops)
    return role in (Role.LAYER, Role.COMPUTE) and bool(_read_floats(graph, node))


def _read_floats(graph: FloatGraph, node: onnx.NodeProto) -> list[str]:
    """Tensors a node reads as values: not its parameters, among them a layer's bias."""
    operands = node.input[:2] if node.op_type in (*DEFAULT_LAYER_OPS, TABLE_OP) else node.input
    return [name for name in operands if graph.is_float_activation(name)]


def _weight_of(graph: FloatGraph, node: onnx.NodeProto) -> str | None:
    if node.op_type not in (*DEFAULT_LAYER_OPS, TABLE_OP):
        return None
    return next((name for name in node.input[:2] if graph.is_float_constant(name)), None)


def _layer(graph: FloatGraph, nodes: list[int], sizes: Sizes | None) -> Layer:
    first = graph.nodes[nodes[0]]
    weight = _weight_of(graph, first)
    read = [name for index in nodes for name in _read_floats(graph, graph.nodes[index])]
    return Layer(
        name=first.name,
        op=first.op_type,
        nodes=tuple(nodes),
        activations=tuple(dict.fromkeys(read)),
        weight=weight,
        weight_shape=tuple(graph.initializers[weight].dims) if weight else (),
        macs=sum(_macs(graph, index, sizes) for index in nodes),
        activation_elements=sum(_elements(graph, name, sizes) for name in dict.fromkeys(read)),
        channels=_channels(graph, nodes, weight),
        biases=sum(_has_bias(graph, graph.nodes[index]) for index in nodes),
    )


def _channels(graph: FloatGraph, nodes: Iterable[int], weight: str | None) -> int:
    """Output channels of a weight; 1 where nodes do not agree on their axis."""
    if weight is None:
        return 1
    shape = graph.initializers[weight].dims
    axes = {output_axis(graph.nodes[index], weight, len(shape)) for index in nodes}
    return shape[axes.pop()] if len(axes) == 1 else 1


def _has_bias(graph: FloatGraph, node: onnx.NodeProto) -> bool:
    return node.op_type in DEFAULT_LAYER_OPS and len(node.input) > 2 and graph.is_float_constant(node.input[2])


def _elements(graph: FloatGraph, name: str, sizes: Sizes | None) -> int:
    """Values of a tensor for one sample."""
    if sizes is None or not all(name in shapes for _, shapes in sizes.shapes):
        return _product((graph.shape(name) or ())[1:])
    return round(sum(share * _product(shapes[name]) for share, shapes in sizes.shapes) / sizes.batch)


def _macs(graph: FloatGraph, index: int, sizes: Sizes | None) -> int:
    """Multiply-accumulates of one node for one sample."""
    node = graph.nodes[index]
    if sizes is None or node.op_type not in DEFAULT_LAYER_OPS:
        return _declared_macs(graph, index)
    macs = sum(share * _seen_macs(graph, node, shapes) for share, shapes in sizes.shapes)
    # What reads no samples is computed once for a batch, however many there are.
    return round(macs / sizes.batch)


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
    if node.op_type not in DEFAULT_LAYER_OPS:
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
            "weight": layer.weight,
            "weight_shape": list(layer.weight_shape),
            "macs": layer.macs,
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
            weight=row["weight"],
            weight_shape=tuple(row["weight_shape"]),
            macs=row["macs"],
            activation_elements=row["activation_elements"],
            channels=row.get("channels") or 1,
            biases=row.get("biases") or 0,
        )
        for row in table.to_pylist()
    ]
