"""The error of tensors inside quantized ONNX files of any tool, against the float model's of the same name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.graph import FloatGraph
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import Session, open_inside, open_nodes
from quant_core.scoring.metrics import power_ratio
from quant_core.scoring.sampling import visit_order
from quant_core.storage.references import Reference

__all__ = ["TensorErrors", "tensor_errors"]

_SAMPLES = 32
"""Samples that are looked at: their tensors are all in memory at once, one sample at a time."""

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class TensorErrors:
    """How far a tensor of the float model is off in each file."""

    tensor: str
    """Its name."""
    decibels: tuple[float | None, ...]
    """SQNR in each file, infinite without an error; None where the file has no such float tensor."""


def tensor_errors(files: Sequence[Path], layers: pa.Table, data: Reference, machine: Machine) -> list[TensorErrors]:
    """Return the errors of all tensors that some file has by name, in the order of the float model's graph.

    A tensor with a pair behind it is taken as the pair gives it: a tool may leave a Relu to the pair. All optimisations
    are off: a runtime that fuses nodes has no such tensors. Of a file that does not open so, nothing is known.

    Args:
        files: the quantized files.
        layers: layer table of the prepared float model (schema LAYERS).
        data: what the models are run on; the first 32 samples of the order of visits.
        machine: threads and cache.

    """
    graph = prepared_graph(layers, machine.cache)
    names = [name for node in graph.nodes for name in node.output if graph.is_float_activation(name)]
    opened = [_Opened.of(file, names) for file in files]
    shared = {name for one in opened for name in one.tensors}
    wanted = [name for name in names if name in shared]
    exact = open_nodes(graph, graph.nodes, wanted, {})
    sums: dict[tuple[int, str], Sums] = {}
    dataset = step_data(graph, data, machine.cache)
    for batch in batches(graph, dataset, 1, visit_order(dataset.count, 0, _SAMPLES)):
        floats = exact(batch.feeds)
        for number, one in enumerate(opened):
            for name, found in one.powers(floats, batch).items():
                sums[number, name] = sums.get((number, name), np.zeros(2)) + found
    return [
        TensorErrors(name, tuple(_decibels(sums.get((number, name))) for number in range(len(files))))
        for name in wanted
    ]


@dataclass(frozen=True)
class _Opened:
    """A file that gives tensors inside it."""

    session: Session | None
    """None where it does not open."""
    tensors: Mapping[str, str]
    """By the name of the float model's, those that are compared with them."""

    @classmethod
    def of(cls, file: Path, names: Sequence[str]) -> _Opened:
        """Open a file with those of the named tensors that it has."""
        graph = FloatGraph.load(file)
        tensors = {name: _behind_pair(graph, name) for name in names if name in graph.producer}
        try:
            return cls(open_inside(file, dict.fromkeys(tensors.values())), tensors)
        except InputError:
            return cls(None, {})

    def powers(self, floats: Mapping[str, NDArray[np.generic]], batch: Batch) -> dict[str, Sums]:
        """Return for each tensor the summed squares of the float model's values and of the error; none if it fails."""
        if self.session is None:
            return {}
        try:
            found = self.session(batch.feeds)
        except Exception:  # onnxruntime raises a class a failure, with no common base of its own
            return {}
        return {
            name: _squares(floats[name], found[source])
            for name, source in self.tensors.items()
            if found[source].dtype.kind == "f" and found[source].shape == floats[name].shape
        }


def _behind_pair(graph: FloatGraph, name: str) -> str:
    """Return what the first pair behind a tensor gives; the tensor where there is none."""
    quantized = _read_by(graph, name, "QuantizeLinear")
    given = None if quantized is None else _read_by(graph, quantized, "DequantizeLinear")
    return name if given is None else given


def _read_by(graph: FloatGraph, name: str, op_type: str) -> str | None:
    """Return what the first node of a type makes of a tensor; None where none reads it."""
    readers = (graph.nodes[index] for index, _ in graph.readers.get(name, ()))
    return next((node.output[0] for node in readers if node.op_type == op_type), None)


def _squares(exact: NDArray[np.generic], found: NDArray[np.generic]) -> Sums:
    ours, theirs = (np.array(array, np.float64) for array in (exact, found))
    same = np.isinf(ours) & (ours == theirs)
    ours[same] = theirs[same] = 0.0  # equal infinities, as masks have, are no error
    return np.array([np.square(ours).sum(), np.square(theirs - ours).sum()])


def _decibels(powers: Sums | None) -> float | None:
    return None if powers is None else power_ratio(*powers.tolist())
