"""Re-runs only the part of the wide model that a change of one layer reaches.

The wide graph is cut into blocks of some layers, and each block is one session. For a batch, all blocks run once and
their outputs are kept. A probe then runs, of the block that holds its layer, what the change reaches as a small session
of its own, and of later blocks what the change has reached; everything else is taken from the baseline. Whatever the
graph's shape, the work is that of the change's descendants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from threading import Lock

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core.model.graph import outer_names
from quant_core.model.sessions import CPU, Numerics, Session, open_nodes
from quant_core.precision import DataType, PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter, QuantizedGraph
from quant_core.quantization.quantizer import Quantizer

__all__ = ["IncrementalModel"]

Values = dict[str, ort.OrtValue]


@dataclass(frozen=True, eq=False)
class _Block:
    """Some nodes of a plan's graph, in topological order."""

    nodes: tuple[onnx.NodeProto, ...]
    reads: frozenset[str]
    writes: tuple[str, ...]

    @classmethod
    def of(cls, nodes: Sequence[onnx.NodeProto]) -> _Block:
        writes = tuple(name for node in nodes for name in node.output if name)
        reads = {name for node in nodes for name in _read(node)}
        return cls(tuple(nodes), frozenset(reads.difference(writes)), writes)


@dataclass(frozen=True)
class _Step:
    """A block that a variant runs."""

    block: _Block
    outputs: Sequence[str]
    """What is read of it later: other variants may begin with more."""


class _Part:
    """A block's session, opened by whichever thread first runs it."""

    def __init__(self, outputs: tuple[str, ...], weight_bytes: int, open_session: Callable[[], Session]) -> None:
        self.outputs = outputs
        self.weight_bytes = weight_bytes
        self._open = open_session
        self._opened: Session | None = None
        self._lock = Lock()

    def run(self, values: Values, outputs: Sequence[str] | None = None) -> Values:
        with self._lock:
            session = self._opened = self._opened or self._open()
        return session.run_values(values, outputs)

    def close(self) -> None:
        """Let go of the session; it is opened again when it is needed again."""
        with self._lock:
            self._opened = None


class IncrementalModel:
    """The wide model and some variants of it, to be run batch by batch, by several threads at once if need be.

    Types in `unrounded` are computed with as if they were float (see `PlanWriter`). Sessions run on ONNX Runtime's
    execution `providers`.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        wide: PrecisionPlan,
        variants: Sequence[PrecisionPlan],
        numerics: Numerics = Numerics.SHIPPED,
        unrounded: frozenset[DataType] = frozenset(),
        providers: Sequence[str] = CPU,
    ) -> None:
        large = quantizer.graph.is_large
        # FAST would fold the weights of a large model into float32, once for every session.
        self._numerics = Numerics.SHIPPED if large else numerics
        self._providers = providers
        self._writer = PlanWriter(quantizer, folded=not large, unrounded=unrounded)
        self._graph = quantizer.graph
        base = self._writer.write(wide)
        known = {id(node) for node in base.nodes}
        rewritten = [self._writer.rewritten(base, plan, plan.changed_from(wide)) for plan in variants]
        changes = [_differing(nodes, known) for nodes in rewritten]
        layers = {quantizer.graph.nodes[index].name for index in quantizer.topology.layer_of}
        cut = _Cut.at(_cuts(base, changes, self._weight_bytes), base, known, layers)
        self._open(cut.blocks, [self._useful(cut.steps(change)) for change in changes])

    def _weight_bytes(self, node: onnx.NodeProto) -> int:
        return sum(self._writer.constants[name].nbytes for name in node.input if name in self._writer.constants)

    def _useful(self, steps: Sequence[_Block]) -> list[_Step]:
        """Return what a variant runs that leads to an output."""
        wanted = set(self._graph.compared)
        found = []
        for block in reversed(steps):
            outputs = [name for name in block.writes if name in wanted]
            if outputs:
                found.append(_Step(block, outputs))
                wanted |= block.reads
        return found[::-1]

    def _open(self, blocks: Sequence[_Block], variants: Sequence[Sequence[_Step]]) -> None:
        changed = [step.block for steps in variants for step in steps]
        needed = self._needed(blocks, changed)
        exported = set(self._graph.compared).union(*(block.reads for block in {*needed, *changed}))
        # A variant has no use for most of what it reads of the baseline, and what a session hands out leaves the
        # blocked layout, asked for or not.
        wanted: dict[_Block, set[str]] = {}
        for step in (step for steps in variants for step in steps):
            wanted.setdefault(step.block, set()).update(step.outputs)
        kept: dict[tuple[_Block, tuple[str, ...]], _Part] = {}
        self._base = [self._part(block, exported, kept) for block in needed]
        self._variants = [
            [(self._part(step.block, wanted[step.block], kept), step.outputs) for step in steps] for steps in variants
        ]
        self.weight_bytes = sum(part.weight_bytes for part in kept.values())
        """Of the constants of all sessions, once they are open."""

    def _part(self, block: _Block, exported: set[str], kept: dict[tuple[_Block, tuple[str, ...]], _Part]) -> _Part:
        outputs = tuple(name for name in block.writes if name in exported)
        if (block, outputs) not in kept:
            constants = self._writer.constants
            arguments = self._graph, block.nodes, outputs, constants, self._numerics, None, self._providers
            size = sum(map(self._weight_bytes, block.nodes))
            kept[block, outputs] = _Part(outputs, size, partial(open_nodes, *arguments))
        return kept[block, outputs]

    def _needed(self, blocks: Sequence[_Block], changed: Sequence[_Block]) -> list[_Block]:
        """The blocks whose baseline values some variant or the baseline's own output needs."""
        wanted = set(self._graph.compared).union(*(block.reads for block in changed))
        needed = []
        for block in reversed(blocks):
            if not wanted.isdisjoint(block.writes):
                needed.append(block)
                wanted |= block.reads
        return needed[::-1]

    def groups(self, weight_bytes: int) -> list[list[int]]:
        """Numbers of the variants in groups of which each, with the baseline, has at most that much in its sessions.

        One variant is a group, however much it has.
        """
        found: list[list[int]] = []
        open_parts: set[_Part] = set()
        for number in range(len(self._variants)):
            parts = self._parts(number)
            if not found or sum(part.weight_bytes for part in open_parts | parts) > weight_bytes:
                found.append([])
                open_parts = set(self._base)
            found[-1].append(number)
            open_parts |= parts
        return found

    def _parts(self, variant: int) -> set[_Part]:
        return {part for part, _ in self._variants[variant]}

    def close(self, variants: Sequence[int]) -> None:
        """Close the sessions that the variants have open and the baseline has not."""
        for part in set().union(*map(self._parts, variants)).difference(self._base):
            part.close()

    def run(
        self, feeds: Mapping[str, NDArray[np.generic]], variants: Sequence[int] | None = None
    ) -> Iterator[dict[str, NDArray[np.generic]]]:
        """The model's outputs on one batch: the wide model's, then those of the variants (all), in the order given."""
        base: Values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        for part in self._base:
            base.update(part.run(base))
        yield self._outputs(base)
        for number in range(len(self._variants)) if variants is None else variants:
            values = dict(base)
            for part, outputs in self._variants[number]:
                values.update(part.run(values, outputs))
            yield self._outputs(values)

    def _outputs(self, values: Values) -> dict[str, NDArray[np.generic]]:
        """Return the values of what may be compared: of outputs that are sequences or maps there are none."""
        found = ((name, values[name]) for name in self._graph.compared)
        return {name: value.numpy() for name, value in found if value.is_tensor()}


def _read(node: onnx.NodeProto) -> list[str]:
    return [name for name in [*node.input, *outer_names(node)] if name]


_BLOCK_BYTES = 16 * 2**20
"""Weights of a block beyond which it ends: what is opened once more for each of its layers stays small."""


Change = Mapping[int, Sequence[onnx.NodeProto]]
"""A variant's nodes by the float node they are written for, ascending, where they are not all the base's."""


def _differing(nodes: Change, known: set[int]) -> Change:
    """`known` are the ids of the base's nodes: a writer makes one object for one content."""
    return {unit: own for unit, own in nodes.items() if any(id(node) not in known for node in own)}


def _cuts(base: QuantizedGraph, changes: Sequence[Change], size_of: Callable[[onnx.NodeProto], int]) -> list[int]:
    """Units at which a block begins, of those at which some variant begins to differ, and the one after them all.

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
class _Cut:
    """The wide model in blocks, and what variants of it run of each."""

    blocks: Sequence[_Block]
    units: Sequence[Sequence[int]]
    """Of the nodes of each block, the float nodes they are written for."""
    known: set[int]
    """Ids of the blocks' nodes."""
    layers: set[str]
    """Names of the nodes that are worth leaving out."""
    _made: dict[tuple[int, ...], _Block] = field(default_factory=dict)
    _reached: dict[tuple[_Block, frozenset[str]], tuple[_Block | None, frozenset[str]]] = field(default_factory=dict)

    @classmethod
    def at(cls, cuts: Sequence[int], base: QuantizedGraph, known: set[int], layers: set[str]) -> _Cut:
        """Blocks that begin at the float nodes `cuts`."""
        numbers = np.searchsorted(cuts, base.units, side="right") - 1
        bounds = [slice(*pair) for pair in pairwise(np.searchsorted(numbers, range(len(cuts) + 1)))]
        return cls(
            [_Block.of(base.nodes[part]) for part in bounds], [base.units[part] for part in bounds], known, layers
        )

    def steps(self, change: Change) -> list[_Block]:
        """Return what a variant runs: of each block, its new nodes and those that read what a new node changes."""
        dirty: set[str] = set()
        steps = []
        for block, units in zip(self.blocks, self.units, strict=True):
            inside = [unit for unit in change if units and units[0] <= unit <= units[-1]]
            if inside:
                nodes, changed = self._reach(_with(block.nodes, units, {unit: change[unit] for unit in inside}), dirty)
                steps.append(_Block.of(nodes))
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

    def _reach_whole(self, block: _Block, before: frozenset[str]) -> tuple[_Block | None, frozenset[str]]:
        """Return what is run of a block with no new node; found once for all variants that reach it alike.

        It is the block itself where only trifles are not reached: each weight is then in memory once.
        """
        if (block, before) not in self._reached:
            reached, dirty = self._reach(block.nodes, before)
            self._reached[block, before] = self._part(block, reached) if reached else None, dirty
        return self._reached[block, before]

    def _part(self, block: _Block, reached: Sequence[onnx.NodeProto]) -> _Block:
        chosen = {id(node): node for node in reached}
        if all(id(node) in chosen for node in block.nodes if node.name in self.layers):
            return block
        return self._made.setdefault(tuple(chosen), _Block.of(reached))


def _with(nodes: Sequence[onnx.NodeProto], units: Sequence[int], change: Change) -> list[onnx.NodeProto]:
    """A block's nodes, those of some units replaced."""
    kept = {unit: list(own) for unit, own in change.items()}
    found: dict[int, list[onnx.NodeProto]] = {}
    for node, unit in zip(nodes, units, strict=True):
        found.setdefault(unit, kept.get(unit, [])).extend([] if unit in kept else [node])
    return [node for own in found.values() for node in own]
