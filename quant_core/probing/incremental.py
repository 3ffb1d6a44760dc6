"""Re-runs only the part of the wide model that a change of one layer reaches.

The wide graph is cut into blocks, one before each layer, and each block is one small session. For a batch,
all blocks run once and their outputs are kept. A probe then replaces the block that holds its layer by a
variant, and runs those later blocks that read something the change has reached; everything else is taken
from the baseline. Whatever the graph's shape, the work is that of the change's descendants; each weight is
in memory once; and as many sessions are opened as there are layers, not as many as there are suffixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core.model.graph import outer_names
from quant_core.model.sessions import Numerics, Session, open_nodes
from quant_core.precision import PrecisionPlan
from quant_core.quantization.qdq import PlanWriter, QuantizedGraph
from quant_core.quantization.quantizer import Quantizer

__all__ = ["IncrementalModel"]

Values = dict[str, ort.OrtValue]


@dataclass(frozen=True)
class _Block:
    """Consecutive nodes of a plan's graph."""

    nodes: tuple[onnx.NodeProto, ...]
    reads: frozenset[str]
    writes: tuple[str, ...]

    @classmethod
    def of(cls, nodes: Sequence[onnx.NodeProto]) -> _Block:
        writes = tuple(name for node in nodes for name in node.output if name)
        reads = {name for node in nodes for name in [*node.input, *outer_names(node)] if name}
        return cls(tuple(nodes), frozenset(reads.difference(writes)), writes)

    def same_as(self, other: _Block) -> bool:
        """Whether the nodes are the same objects: a writer makes one object for one content."""
        return len(self.nodes) == len(other.nodes) and all(
            mine is theirs for mine, theirs in zip(self.nodes, other.nodes, strict=True)
        )


class IncrementalModel:
    """The wide model and some variants of it, ready to run batch by batch."""

    def __init__(
        self,
        quantizer: Quantizer,
        wide: PrecisionPlan,
        variants: Sequence[PrecisionPlan],
        numerics: Numerics = Numerics.SHIPPED,
    ) -> None:
        large = quantizer.graph.is_large
        # FAST would fold the weights of a large model into float32, once for every session.
        self._numerics = Numerics.SHIPPED if large else numerics
        self._writer = PlanWriter(quantizer, folded=not large)
        self._graph = quantizer.graph
        base = self._writer.write(wide)
        written = [self._writer.write(plan) for plan in variants]
        cuts = _cuts(base, written)
        blocks = _split(base, cuts)
        changed = [
            {number: block for number, block in enumerate(_split(variant, cuts)) if not block.same_as(blocks[number])}
            for variant in written
        ]
        self._open(blocks, changed)

    def _open(self, blocks: Sequence[_Block], changed: Sequence[Mapping[int, _Block]]) -> None:
        all_blocks = [*blocks, *(block for variant in changed for block in variant.values())]
        exported = set(self._graph.outputs).union(*(block.reads for block in all_blocks))
        reached = [self._reach(blocks, variant) for variant in changed]
        needed = self._needed(blocks, changed, reached)
        opened = needed.union(*reached)
        self._blocks = {number: self._session(blocks[number], exported) for number in sorted(opened)}
        self._base_order = sorted(needed)
        self._variants = [
            [
                self._session(variant[number], exported) if number in variant else self._blocks[number]
                for number in order
            ]
            for variant, order in zip(changed, reached, strict=True)
        ]

    def _session(self, block: _Block, exported: set[str]) -> Session:
        outputs = [name for name in block.writes if name in exported]
        return open_nodes(self._graph, block.nodes, outputs, self._writer.constants, self._numerics)

    def _reach(self, blocks: Sequence[_Block], variant: Mapping[int, _Block]) -> list[int]:
        """Numbers of the blocks a variant runs: those with a new node, or one that reads what a new node changes."""
        known = {id(node) for block in blocks for node in block.nodes}
        dirty: set[str] = set()
        order = []
        for number, block in enumerate(blocks):
            before = len(dirty)
            for node in variant.get(number, block).nodes:
                if id(node) not in known or not dirty.isdisjoint([*node.input, *outer_names(node)]):
                    dirty.update(node.output)
            if len(dirty) > before:
                order.append(number)
        return order

    def _needed(
        self, blocks: Sequence[_Block], changed: Sequence[Mapping[int, _Block]], reached: Sequence[Sequence[int]]
    ) -> set[int]:
        """Numbers of the blocks whose baseline values some variant or the baseline's own output needs."""
        wanted = set(self._graph.outputs)
        for variant, order in zip(changed, reached, strict=True):
            for number in order:
                wanted |= variant.get(number, blocks[number]).reads
        needed = set()
        for number in range(len(blocks) - 1, -1, -1):
            if not wanted.isdisjoint(blocks[number].writes):
                needed.add(number)
                wanted |= blocks[number].reads
        return needed

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Iterable[dict[str, NDArray[np.generic]]]:
        """The model's outputs on one batch: first the wide model's, then each variant's in turn."""
        base: Values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        for number in self._base_order:
            base.update(self._blocks[number].run_values(base))
        yield self._outputs(base)
        for sessions in self._variants:
            values = dict(base)
            for session in sessions:
                values.update(session.run_values(values))
            yield self._outputs(values)

    def _outputs(self, values: Values) -> dict[str, NDArray[np.generic]]:
        return {name: values[name].numpy() for name in self._graph.outputs}


def _cuts(base: QuantizedGraph, variants: Iterable[QuantizedGraph]) -> list[int]:
    """Units at which a block begins: for each variant, the first unit it changes."""
    cuts = {0}
    for variant in variants:
        pairs = zip(base.nodes, base.units, variant.nodes, variant.units, strict=False)
        changed = (min(unit, other) for node, unit, new, other in pairs if node is not new)
        cuts.add(next(changed, 0))
    return sorted(cuts)


def _split(graph: QuantizedGraph, cuts: Sequence[int]) -> list[_Block]:
    """The graph's nodes by block."""
    numbers = np.searchsorted(cuts, graph.units, side="right") - 1
    bounds = np.searchsorted(numbers, range(len(cuts) + 1))
    return [_Block.of(graph.nodes[start:stop]) for start, stop in pairwise(bounds)]
