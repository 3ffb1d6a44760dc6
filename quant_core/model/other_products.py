"""Operators that multiply and are no layers: what they take is the same for every plan, and part of the whole.

They stay in float, as fused operators do, or are at the wide precision where the search was told not to choose theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import onnx
import pyarrow as pa

from quant_core.model.graph import FloatGraph, nodes_inside, outer_names
from quant_core.model.layers import Layer
from quant_core.model.operators import RECURRENT_OPS, Role, role_of
from quant_core.model.products import Shapes, node_products
from quant_core.model.selection import is_left_in_float
from quant_core.model.sizes import Sizes
from quant_core.storage.tables import facts, with_facts

__all__ = ["OtherProduct", "find_other_products", "other_products", "with_other_products"]

_FACT = "other_products"


@dataclass(frozen=True)
class OtherProduct:
    """A node that multiplies and is no layer."""

    name: str
    """Name of the node."""
    op: str
    """Operator type, with its domain unless that is ONNX's."""
    macs: int | None
    """Multiply-accumulates for one sample; None where they cannot be known."""
    weight_elements: int
    """Values of the weights it reads."""
    wide: bool
    """Whether it is at the wide precision, not in float."""
    why: str
    """Why it is no layer."""


def find_other_products(
    graph: FloatGraph, layers: Iterable[Layer], layer_ops: Iterable[str], sizes: Sizes | None = None
) -> list[OtherProduct]:
    """Return the nodes that multiply and are no layers, in graph order.

    Costs follow from the `sizes` that data have, or else from declared shapes, where all but the samples are fixed.
    """
    taken, ops = {index for layer in layers for index in layer.nodes}, frozenset(layer_ops)
    others = [node for index, node in enumerate(graph.nodes) if index not in taken]
    return list(filter(None, (_other_product(graph, node, ops, sizes) for node in others)))


def _other_product(
    graph: FloatGraph, node: onnx.NodeProto, ops: frozenset[str], sizes: Sizes | None
) -> OtherProduct | None:
    macs = _macs(graph, node, sizes)
    if macs == 0:
        return None
    wide = not is_left_in_float(node) and role_of(node.op_type, node.domain, ops) is Role.COMPUTE
    weights = sum(math.prod(graph.initializers[name].dims) for name in _weights(graph, node))
    op = f"{node.domain}:{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return OtherProduct(node.name, op, macs, weights, wide, _why(node, wide, ops))


def _weights(graph: FloatGraph, node: onnx.NodeProto) -> Iterator[str]:
    """The float constants of two dimensions or more that a node or its bodies read."""
    for name in dict.fromkeys([*node.input, *outer_names(node)]):
        if graph.is_float_constant(name) and len(graph.initializers[name].dims) > 1:
            yield name


def _why(node: onnx.NodeProto, wide: bool, ops: frozenset[str]) -> str:
    if wide:
        return "the search does not choose the precision of such operators"
    if is_left_in_float(node):
        return "it was excluded"
    if any(True for _ in nodes_inside(node)):
        return "what is inside its bodies is left as it is"
    if node.domain not in ("", "ai.onnx"):
        return "it is an operator of another domain"
    if node.op_type in RECURRENT_OPS:
        return "its weights are computed" if node.op_type in ops else "such operators are no layers of this run"
    return "such operators have no quantized form here"


def _macs(graph: FloatGraph, node: onnx.NodeProto, sizes: Sizes | None) -> int | None:
    """Multiply-accumulates of a node for one sample; None where they cannot be known."""
    if sizes is None:
        return node_products(graph, node, _declared(graph, node))
    counts = [
        (share, node_products(graph, node, {**_constants(graph, node), **shapes})) for share, shapes in sizes.shapes
    ]
    known = [share * count for share, count in counts if count is not None]
    return math.ceil(sum(known) / sizes.batch) if len(known) == len(counts) else None


def _constants(graph: FloatGraph, node: onnx.NodeProto) -> Shapes:
    names = [*node.input, *outer_names(node)]
    return {name: tuple(graph.initializers[name].dims) for name in names if name in graph.initializers}


def _declared(graph: FloatGraph, node: onnx.NodeProto) -> Shapes:
    """The declared shapes around a node, for one sample along the first axis."""
    found = dict(_constants(graph, node))
    for name in [*node.input, *node.output, *outer_names(node)]:
        dims = graph.shape(name)
        if name not in found and dims is not None:
            dims = (1 if dims and dims[0] is None else dims[0], *dims[1:]) if dims else ()
            if None not in dims:
                found[name] = tuple(dim for dim in dims if dim is not None)
    return found


def with_other_products(layers: pa.Table, others: Sequence[OtherProduct]) -> pa.Table:
    """Return a layer table (schema LAYERS) that keeps them as a fact."""
    return with_facts(layers, **{_FACT: [asdict(other) for other in others]})


def other_products(layers: pa.Table) -> tuple[OtherProduct, ...]:
    """Return what a layer table keeps of them."""
    return tuple(OtherProduct(**other) for other in facts(layers).get(_FACT, []))
