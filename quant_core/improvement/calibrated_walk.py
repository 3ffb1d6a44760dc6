"""Walks through the float model and a quantized one side by side, layer by layer.

What both compute up to a layer is kept, for all samples, until it has been read for the last time. So all layers
together take one pass of each model, although what the quantized one does in a layer is decided on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.execution.parallel import ordered_map
from quant_core.model.data.batches import Batch
from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.sessions import Constants, open_nodes

__all__ = ["CalibratedWalk", "Stop", "live_elements"]

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Stop:
    """A place on the way: in front of a node of the quantized model, behind the same node of the float one."""

    quantized: int
    """How many nodes of the quantized model run before it."""
    float: int
    """How many nodes of the float model run before it."""
    reads: frozenset[str]
    """What is looked at of the quantized model."""
    compares: frozenset[str]
    """What is looked at of the float model."""


class _Side:
    """One of the two models, with what it has computed for each batch."""

    def __init__(
        self,
        graph: FloatGraph,
        nodes: Sequence[onnx.NodeProto],
        constants: Constants,
        feeds: Sequence[Arrays],
        looked_at: Mapping[str, int],
    ) -> None:
        self._graph, self._nodes, self._constants = graph, nodes, constants
        self._done = 0
        self._needed = _last_needed(nodes, looked_at)
        self.values = [dict(batch) for batch in feeds]

    def advance(self, stop: int, workers: int) -> None:
        """Run up to a node, and let go of what is not needed from there on."""
        nodes = self._nodes[self._done : stop]
        self._done = stop
        kept = [name for node in nodes for name in node.output if self._needed.get(name, -1) >= stop]
        session = open_nodes(self._graph, nodes, kept, self._constants) if kept else None
        for number, found in enumerate(ordered_map(session, self.values, workers) if session else ()):
            self.values[number].update(found)
        for values in self.values:
            for name in [name for name in values if self._needed.get(name, -1) < stop]:
                del values[name]


def _last_needed(nodes: Sequence[onnx.NodeProto], looked_at: Mapping[str, int]) -> dict[str, int]:
    """Return the last node that reads each tensor, or the last stop at which it is looked at, if that is later."""
    found = dict(looked_at)
    for at, node in enumerate(nodes):
        for name in [*node.input, *outer_names(node)]:
            found[name] = max(found.get(name, -1), at)
    return found


class CalibratedWalk:
    """The walk; constants of the quantized model may be changed until it gets to the nodes that read them."""

    def __init__(
        self,
        graph: FloatGraph,
        quantized: Sequence[onnx.NodeProto],
        constants: Constants,
        stops: Sequence[Stop],
        data: Sequence[Batch],
        workers: int,
    ) -> None:
        feeds = [dict(batch.feeds) for batch in data]
        self._data, self._workers = data, workers
        reads = {name: stop.quantized for stop in stops for name in stop.reads}
        compares = {name: stop.float for stop in stops for name in stop.compares}
        self._quantized = _Side(graph, quantized, constants, feeds, reads)
        self._float = _Side(graph, graph.nodes, {}, feeds, compares)

    def at(self, stop: Stop) -> list[tuple[Batch, Arrays, Arrays]]:
        """Go on to a stop: each batch with what the quantized and what the float model have there."""
        self._quantized.advance(stop.quantized, self._workers)
        self._float.advance(stop.float, self._workers)
        return list(zip(self._data, self._quantized.values, self._float.values, strict=True))


def live_elements(graph: FloatGraph, stops: Sequence[Stop]) -> int:
    """Return how many values of the float model are kept at a time, at most, for a sample of the declared sizes."""
    needed = _last_needed(graph.nodes, {name: stop.float for stop in stops for name in stop.compares})
    written = {name: at for at, node in enumerate(graph.nodes) for name in node.output}
    changes = np.zeros(len(graph.nodes) + 2, np.int64)
    for name, at in written.items():
        if needed.get(name, -1) > at:
            size = math.prod(size or 1 for size in (graph.shape(name) or ())[1:])
            changes[at] += size
            changes[needed[name] + 1] -= size
    kept = np.cumsum(changes)
    return int(kept[[stop.float for stop in stops]].max(initial=1))
