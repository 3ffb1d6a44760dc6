"""The float model as calibration runs it: it gives every tensor that is looked at, and the outputs that are compared.

Where plans are scored on the calibration data, these outputs are kept on the way. Where they are gone, the model is
opened in this very form again: in another one sums round differently in the last bit, and a run that goes on elsewhere
would not give the same numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.calibration.data_movement import moved_tensors
from quant_core.calibration.masked_softmax import masked_scores, softmax_scores
from quant_core.model.data.sample_outputs import Outputs
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import layers_from_table
from quant_core.model.sessions import CPU, Session, fast_numerics, open_nodes
from quant_core.model.topology import Topology
from quant_core.storage.references import Reference, atomic_write, made_folder
from quant_core.storage.tables import content_digest

__all__ = ["KeptOutputs", "ObservedModel", "observed_tensors"]

_LARGEST = 1 << 26
"""Bytes of outputs that are held in memory on the way; more are computed again."""


@dataclass(frozen=True)
class ObservedModel:
    """An open float model that gives what calibration looks at."""

    session: Session
    """Runs the whole model."""
    tensors: Sequence[str]
    """Those that get a histogram."""
    looked_at: Sequence[str]
    """Those whose values are counted."""
    moved: Mapping[str, Sequence[str]]
    """The others, with those whose values they move."""
    scores: Mapping[str, int]
    """Tensors that only Softmax reads, with its axis."""
    masked: Mapping[str, str]
    """Tensors whose values become such scores further on, and those."""
    compared: tuple[str, ...]
    """Outputs that quantized models are compared by."""
    others: tuple[str, ...]
    """The model's other outputs."""

    @classmethod
    def opened(
        cls, graph: FloatGraph, layers: pa.Table, compared: Sequence[str] | None, providers: Sequence[str] = CPU
    ) -> ObservedModel:
        """Open the prepared model that a layer table was read from; of its outputs, those `compared` (all) count."""
        tensors = observed_tensors(Topology.of(graph, layers_from_table(layers)))
        scores = softmax_scores(graph)
        masked = masked_scores(graph, scores)
        moved = moved_tensors(graph, tensors, apart={*scores, *masked})
        looked_at = [name for name in tensors if name not in moved]
        others = () if compared is None else tuple(name for name in graph.outputs if name not in compared)
        outputs = tuple(name for name in graph.outputs if name not in others)
        floats = filter(graph.is_float_activation, outputs)  # a recurrent layer's are not looked at for their range
        wanted = [name for name in dict.fromkeys([*looked_at, *floats, *others]) if name not in graph.inputs]
        session = open_nodes(graph, graph.nodes, wanted, {}, fast_numerics(graph), providers=providers)
        return cls(session, tensors, looked_at, moved, scores, masked, outputs, others)


def observed_tensors(topology: Topology) -> list[str]:
    """Tensors that may carry a type and that a quantized operator reads or writes, in graph order."""
    touched = [name for index in range(len(topology.roles)) for name in topology.touched(index)]
    return [name for name in dict.fromkeys(touched) if name in topology.quantizable]


class KeptOutputs:
    """The float outputs of a data set, in a file of the cache."""

    def __init__(
        self, layers: pa.Table, data: Reference, names: Sequence[str], batch_size: int | None, cache: Path
    ) -> None:
        # The layers say which tensors are looked at, and so how the model is fused: the last bits hang on that.
        key = json.dumps([content_digest(layers).decode(), data.sha256, list(names), batch_size])
        self._file = cache / "float-outputs" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
        self._names = names
        self._rows: list[NDArray[np.intp]] = []
        self._parts: list[Outputs] = []
        self._bytes = 0

    def add(self, rows: NDArray[np.intp], found: Outputs) -> None:
        """Take the outputs of some samples."""
        self._bytes += sum(array.nbytes for array in found.values())
        if self._bytes <= _LARGEST:
            self._rows.append(rows)
            self._parts.append(found)

    def write(self) -> None:
        """Keep what was taken, unless it is too much or samples differ in shape."""
        shapes = {tuple(part[name].shape[1:] for name in self._names) for part in self._parts}
        if self._bytes > _LARGEST or len(shapes) > 1:
            return
        order = np.argsort(np.concatenate(self._rows), kind="stable")
        arrays = [np.concatenate([part[name] for part in self._parts])[order] for name in self._names]
        stream = io.BytesIO()
        np.savez(stream, *arrays)  # by number: a name may be no name of a file
        made_folder(self._file.parent)
        atomic_write(self._file, stream.getvalue(), lasting=False)

    def read(self) -> Outputs | None:
        """Return the outputs by name, one entry a sample; None where they are not there, or damaged."""
        try:
            with np.load(self._file) as stored:
                return {name: stored[f"arr_{number}"] for number, name in enumerate(self._names)}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
