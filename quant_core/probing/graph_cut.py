"""The graph of a plan cut into blocks, and what of each block a change of one layer reaches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import onnx

from quant_core.model.graph import outer_names
from quant_core.quantization.plan_graph.qdq import QuantizedGraph

__all__ = ["Block", "Change", "GraphCut", "differing_nodes", "places_to_cut"]


@dataclass(frozen=True, eq=False)
class Block:
    """Some nodes of a plan's graph, in topological order."""

    nodes: tuple[onnx.NodeProto, ...]
    """The nodes."""
    reads: frozenset[str]
    """Tensors that they read and do not write, constants among them."""
    writes: tuple[str, ...]
    """Tensors that they write."""

    @classmethod
    def of(cls, nodes: Sequence[onnx.NodeProto]) -> Block:
        """Make a block of some nodes, given in topological order."""
        writes = tuple(name for node in nodes for name in node.output if name)
        reads = {name for node in nodes for name in _read(node)}
        return cls(tuple(nodes), frozenset(reads.difference(writes)), writes)


def _read(node: onnx.NodeProto) -> list[str]:
    return [name for name in [*node.input, *outer_names(node)] if name]


_BLOCK_BYTES = 16 * 2**20
"""Weights of a block beyond which it ends: what is opened once more for each of its layers stays small."""

Change = Mapping[int, Sequence[onnx.NodeProto]]
"""A variant's nodes by the float node they are written for, ascending, where they are not all the base's."""


def differing_nodes(nodes: Change, known: set[int]) -> Change:
    """Return what of a variant is not in the base, whose nodes have the ids `known`: equal nodes are one object."""
    return {unit: own for unit, own in nodes.items() if any(id(node) not in known for node in own)}


def places_to_cut(
    base: QuantizedGraph, changes: Sequence[Change], size_of: Callable[[onnx.NodeProto], int]
) -> list[int]:
    """Return the units at which blocks begin, of those at which some variant begins to differ.

    Between blocks tensors leave ONNX Runtime's blocked layout and nothing fuses, so small blocks are slow; but all of
    its block that follows a layer is opened once more for the layer. Blocks of about sqrt(N) layers balance the two.
    """
    changed = [list(change) for change in changes if change]
    starts = sorted({0, *(units[0] for units in changed)})
    points = [*starts, *({max(units[-1] for units in changed) + 1} if changed else ())]
    sizes = np.zeros(len(points), np.int64)
    for node, place in zip(base.nodes, np.searchsorted(points, base.units, side="right") - 1, strict=True):
        sizes[place] += size_of(node)
    cuts, first = [0], 0
    for place in range(1, len(points)):
        if place - first == math.isqrt(len(starts)) or sizes[first : place + 1].sum() > _BLOCK_BYTES:
            cuts.append(points[place])
            first = place
    return cuts


@dataclass
class GraphCut:
    """The wide model in blocks, and what variants of it run of each."""

    blocks: Sequence[Block]
    """In topological order."""
    units: Sequence[Sequence[int]]
    """Of the nodes of each block, the float nodes they are written for."""
    known: set[int]
    """Ids of the blocks' nodes."""
    layers: set[str]
    """Names of the nodes that are worth leaving out."""
    _made: dict[tuple[int, ...], Block] = field(default_factory=dict)
    _reached: dict[tuple[Block, frozenset[str]], tuple[Block | None, frozenset[str]]] = field(default_factory=dict)

    @classmethod
    def at(cls, cuts: Sequence[int], base: QuantizedGraph, known: set[int], layers: set[str]) -> GraphCut:
        """Blocks that begin at the float nodes `cuts`."""
        numbers = np.searchsorted(cuts, base.units, side="right") - 1
        bounds = [slice(*pair) for pair in pairwise(np.searchsorted(numbers, range(len(cuts) + 1)))]
        return cls(
            [Block.of(base.nodes[part]) for part in bounds], [base.units[part] for part in bounds], known, layers
        )

    def steps(self, change: Change) -> list[Block]:
        """Return what a variant runs: of each block, its new nodes and those that read what a new node changes."""
        dirty: set[str] = set()
        steps = []
        for block, units in zip(self.blocks, self.units, strict=True):
            inside = [unit for unit in change if units and units[0] <= unit <= units[-1]]
            if inside:
                nodes, changed = self._reach(_with(block.nodes, units, {unit: change[unit] for unit in inside}), dirty)
                steps.append(Block.of(nodes))
            else:
                own, changed = self._reach_whole(block, block.reads & dirty)
                steps += [own] if own else []
            dirty.update(changed)
        return steps

    def _reach(self, nodes: Sequence[onnx.NodeProto], before: Set[str]) -> tuple[list[onnx.NodeProto], frozenset[str]]:
        """The nodes that are new or read what has changed before, and what they change."""
        dirty, reached = set(before), []
        for node in nodes:
            if id(node) not in self.known or not dirty.isdisjoint(_read(node)):
                dirty.update(node.output)
                reached.append(node)
        return reached, frozenset(dirty)

    def _reach_whole(self, block: Block, before: frozenset[str]) -> tuple[Block | None, frozenset[str]]:
        """Return what is run of a block with no new node; found once for all variants that reach it alike.

        It is the block itself where only trifles are not reached: each weight is then in memory once.
        """
        if (block, before) not in self._reached:
            reached, dirty = self._reach(block.nodes, before)
            self._reached[block, before] = self._part(block, reached) if reached else None, dirty
        return self._reached[block, before]

    def _part(self, block: Block, reached: Sequence[onnx.NodeProto]) -> Block:
        chosen = {id(node): node for node in reached}
        if all(id(node) in chosen for node in block.nodes if node.name in self.layers):
            return block
        return self._made.setdefault(tuple(chosen), Block.of(reached))


def _with(nodes: Sequence[onnx.NodeProto], units: Sequence[int], change: Change) -> list[onnx.NodeProto]:
    """A block's nodes, those of some units replaced."""
    kept = {unit: list(own) for unit, own in change.items()}
    found: dict[int, list[onnx.NodeProto]] = {}
    for node, unit in zip(nodes, units, strict=True):
        found.setdefault(unit, kept.get(unit, [])).extend([] if unit in kept else [node])
    return [node for own in found.values() for node in own]
