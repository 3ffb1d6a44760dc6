"""Re-runs only the part of the wide model that a change of one layer reaches.

The wide graph is cut into blocks of some layers, and each block is one session. For a batch, all blocks run once and
their outputs are kept. A probe then runs, of the block that holds its layer, what the change reaches as a small session
of its own, and of later blocks what the change has reached; everything else is taken from the baseline. Whatever the
graph's shape, the work is that of the change's descendants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core.model.sessions import CPU, Numerics, Session, open_nodes
from quant_core.precision import DataType, PrecisionPlan
from quant_core.probing.graph_cut import Block, GraphCut, differing_nodes, places_to_cut
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.quantizer import Quantizer

__all__ = ["IncrementalModel"]

Values = dict[str, ort.OrtValue]


@dataclass(frozen=True)
class _Step:
    """A block that a variant runs."""

    block: Block
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
        changes = [differing_nodes(nodes, known) for nodes in rewritten]
        layers = {quantizer.graph.nodes[index].name for index in quantizer.topology.layer_of}
        cut = GraphCut.at(places_to_cut(base, changes, self._weight_bytes), base, known, layers)
        self._open(cut.blocks, [self._useful(cut.steps(change)) for change in changes])

    def _weight_bytes(self, node: onnx.NodeProto) -> int:
        return sum(self._writer.constants[name].nbytes for name in node.input if name in self._writer.constants)

    def _useful(self, steps: Sequence[Block]) -> list[_Step]:
        """Return what a variant runs that leads to an output."""
        wanted = set(self._graph.compared)
        found = []
        for block in reversed(steps):
            outputs = [name for name in block.writes if name in wanted]
            if outputs:
                found.append(_Step(block, outputs))
                wanted |= block.reads
        return found[::-1]

    def _open(self, blocks: Sequence[Block], variants: Sequence[Sequence[_Step]]) -> None:
        changed = [step.block for steps in variants for step in steps]
        needed = self._needed(blocks, changed)
        exported = set(self._graph.compared).union(*(block.reads for block in {*needed, *changed}))
        # A variant has no use for most of what it reads of the baseline, and what a session hands out leaves the
        # blocked layout, asked for or not.
        wanted: dict[Block, set[str]] = {}
        for step in (step for steps in variants for step in steps):
            wanted.setdefault(step.block, set()).update(step.outputs)
        kept: dict[tuple[Block, tuple[str, ...]], _Part] = {}
        self._base = [self._part(block, exported, kept) for block in needed]
        self._variants = [
            [(self._part(step.block, wanted[step.block], kept), step.outputs) for step in steps] for steps in variants
        ]
        self.weight_bytes = sum(part.weight_bytes for part in kept.values())
        """Of the constants of all sessions, once they are open."""

    def _part(self, block: Block, exported: set[str], kept: dict[tuple[Block, tuple[str, ...]], _Part]) -> _Part:
        outputs = tuple(name for name in block.writes if name in exported)
        if (block, outputs) not in kept:
            constants = self._writer.constants
            arguments = self._graph, block.nodes, outputs, constants, self._numerics, None, self._providers
            size = sum(map(self._weight_bytes, block.nodes))
            kept[block, outputs] = _Part(outputs, size, partial(open_nodes, *arguments))
        return kept[block, outputs]

    def _needed(self, blocks: Sequence[Block], changed: Sequence[Block]) -> list[Block]:
        """The blocks whose baseline values some variant or the baseline's own output needs."""
        wanted = set(self._graph.compared).union(*(block.reads for block in changed))
        needed = []
        for block in reversed(blocks):
            if not wanted.isdisjoint(block.writes):
                needed.append(block)
                wanted |= block.reads
        return needed[::-1]

    def groups(self, weight_bytes: int, variants: Sequence[int]) -> list[list[int]]:
        """Return variants in groups of which each, with the baseline, has at most that much in its sessions.

        One variant is a group, however much it has.
        """
        found: list[list[int]] = []
        open_parts: set[_Part] = set()
        for number in variants:
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
