"""Blocks of layers that a network repeats, found by names or in the graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import onnx

from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.layers import Layer

__all__ = ["blocks_by_name", "blocks_in_graph"]

Blocks = list[list[str]]
"""Names of the layers of each block, in graph order."""

_NUMBERED = re.compile(r"(.*[._])?\d+")


def blocks_by_name(layers: Sequence[Layer]) -> Blocks:
    """Return layers whose names begin alike, up to the first part that is numbered: `/features/features.3`.

    That is how exporters write the members of a list of modules. A layer without such a part is a block of its own.
    """
    found: dict[str, list[str]] = {}
    for layer in layers:
        parts = layer.name.split("/")
        at = next((at for at, part in enumerate(parts[:-1]) if _NUMBERED.fullmatch(part)), len(parts))
        found.setdefault("/".join(parts[: at + 1]), []).append(layer.name)
    return list(found.values())


def blocks_in_graph(graph: FloatGraph, layers: Sequence[Layer]) -> Blocks:
    """Return residual blocks, attention and feed-forward ones among them, and the layers that lie between two of them.

    A residual block is what lies on one way only to an Add of two tensors, one of which the other is computed from,
    or that are both computed from the same one; of blocks within each other it is the innermost. What lies between
    is one block, up to the size of the largest of those; fewer layers than that before and behind them all are single.
    """
    of_node = {node: layer.name for layer in layers for node in layer.nodes}
    residual: dict[str, int] = {}
    for number, nodes in enumerate(_residual_branches(graph)):
        names = {of_node[node] for node in nodes if node in of_node}
        if names.isdisjoint(residual):
            residual |= dict.fromkeys(names, number)
    largest = max(Counter(residual.values()).values(), default=1)
    found: list[list[str]] = []
    of_block: dict[int, list[str]] = {}
    between: list[str] = []
    for name in (layer.name for layer in layers):
        block = of_block.setdefault(residual[name], []) if name in residual else between
        if name in residual:
            between = []
        elif len(between) in (0, largest):
            block = between = []
        if not block:
            found.append(block)
        block.append(name)
    outermost = [block for block in found[:1] + found[-1:] if len(block) < largest and block[0] not in residual]
    return [part for block in found for part in ([[name] for name in block] if block in outermost else [block])]


def _residual_branches(graph: FloatGraph) -> list[set[int]]:
    """Return, for each residual Add in graph order, itself and the nodes on one of the two ways to it only."""
    reached, found = _ancestors(graph), []
    for index, node in enumerate(graph.nodes):
        # ONNX Runtime makes one Gemm of a MatMul and the Add behind it.
        added = {"Add": node.input[:2], "Gemm": node.input[::2]}.get(node.op_type, ())
        if len(added) == 2 and all(map(graph.is_float_activation, added)):
            first, second = (reached.get(name, 0) for name in added)
            if _is_residual(graph, first | (node.op_type == "Gemm") << index, second):
                found.append(_members(first ^ second) | {index})
    return found


def _is_residual(graph: FloatGraph, first: int, second: int) -> bool:
    """Return whether one way goes on from the other, or both from what they have in common."""
    common = first & second
    if common in (first, second):
        return first != second
    sides = [_members(side & ~common) for side in (first, second)]
    outside = {name for side in sides for name in _read_of(graph, side)}
    return bool(common and outside) and all(
        common >> graph.producer[name] & 1 if name in graph.producer else 0 for name in outside
    )


def _read_of(graph: FloatGraph, nodes: set[int]) -> set[str]:
    """Return the float tensors that some nodes read and none of them writes."""
    written = {name for index in nodes for name in graph.nodes[index].output}
    read = {name for index in nodes for name in _inputs(graph.nodes[index]) if graph.is_float_activation(name)}
    return read - written


def _ancestors(graph: FloatGraph) -> Mapping[str, int]:
    """Return the nodes that each tensor is computed by, as bits of a number: of large graphs sets would be too many."""
    found: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        before = 1 << index
        # A shape says nothing of values: a mask that is made as long as a sentence is no second way from it.
        for name in _inputs(node) if node.op_type not in ("Shape", "Size") else ():
            before |= found.get(name, 0)
        found.update(dict.fromkeys(node.output, before))
    return found


def _members(bits: int) -> set[int]:
    """Return the places of the bits that are set."""
    return {place for place, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"}


def _inputs(node: onnx.NodeProto) -> list[str]:
    return [name for name in [*node.input, *outer_names(node)] if name]
