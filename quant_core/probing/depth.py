"""How large the error is along the depth of a quantized model: what each layer adds, and what has come down to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.sessions import Session, open_nodes
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter, QuantizedGraph
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.scoring.sampling import Samples
from quant_core.storage.schemas import DEPTH

__all__ = ["errors_along_depth"]

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class _LayerAlone:
    """A layer of the quantized model with the pairs of what it reads, to be fed with what the float model has there."""

    name: str
    output: str
    """What the layer's last node puts out, in the float model."""
    quantized: str
    """The same in the quantized model."""
    feeds: Mapping[str, str]
    """For each tensor that the session is fed with, the one of the float model."""
    session: Session


def errors_along_depth(
    recipe: QuantizationRecipe, samples: Samples, precision: str, batch_size: int | None, machine: Machine
) -> pa.Table:
    """Measure the error of what each layer puts out, with all layers at a precision (schema DEPTH).

    `alone` is that of the layer on the float model's tensors, `accumulated` that in the quantized model, both summed
    squares over samples, beside `signal`. Of a layer of several nodes it is the last node's.
    """
    quantizer = quantizer_of(recipe, machine)
    graph = quantizer.graph
    names = [layer.name for layer in quantizer.layers]
    writer = PlanWriter(quantizer, folded=True)
    written = writer.write(PrecisionPlan.uniform(names, Precision.parse(precision)))
    ends = {layer.name: layer.nodes[-1] for layer in quantizer.layers}
    parts = [_alone(writer, written, name, index) for name, index in ends.items()]
    wanted = {name for part in parts for name in (part.output, *part.feeds.values())} - set(graph.inputs)
    exact = open_nodes(graph, graph.nodes, sorted(wanted), {})
    quantized = open_nodes(graph, written.nodes, sorted({part.quantized for part in parts}), writer.constants)
    data = step_data(graph, samples.data, machine.cache)
    rows = data.rows_of(samples.rows(data.samples))
    watcher().expects("depth", len(rows))
    every = batches(graph, data, batch_size, rows, machine.memory)
    found = ordered_map(partial(_sums, exact, quantized, parts), every, machine.workers)
    sums = reduce(np.add, found)
    signal, alone, accumulated = sums.T
    columns = {
        "layer": [part.name for part in parts],
        "precision": [precision] * len(parts),
        "signal": signal,
        "alone": alone,
        "accumulated": accumulated,
    }
    return pa.Table.from_pydict(columns, schema=DEPTH)


def _alone(writer: PlanWriter, written: QuantizedGraph, name: str, index: int) -> _LayerAlone:
    """Cut a layer and the pairs in front of it out of the quantized model."""
    graph = writer.quantizer.graph
    node = next(
        one
        for one, unit in zip(written.nodes, written.units, strict=True)
        if unit == index and one.name == graph.nodes[index].name
    )
    makers = {output: one for one in written.nodes for output in one.output}
    nodes: list[onnx.NodeProto] = [node]
    feeds = {}
    for read, float_name in zip(node.input, graph.nodes[index].input, strict=True):
        if not graph.is_float_activation(float_name):
            continue
        source = read
        while source not in (float_name, writer.made(f"{float_name}/float")) and source in makers:
            nodes.insert(0, makers[source])
            source = makers[source].input[0]
        feeds[source] = float_name
    unique = list({id(one): one for one in nodes}.values())
    place = next(at for at, output in enumerate(node.output) if output)  # a recurrent node may leave out its first
    session = open_nodes(graph, unique, [node.output[place]], writer.constants)
    return _LayerAlone(name, graph.nodes[index].output[place], node.output[place], feeds, session)


def _sums(exact: Session, quantized: Session, parts: Sequence[_LayerAlone], batch: Batch) -> Sums:
    """Return three sums of squares a layer: of its output, of its error alone, and of that in the quantized model."""
    floats = {**batch.feeds, **exact(batch.feeds)}
    found, sums = quantized(batch.feeds), np.zeros((len(parts), 3))
    for at, part in enumerate(parts):
        output = _of_samples(floats[part.output], batch)
        given = {source: floats[name] for source, name in part.feeds.items()}
        ((_, alone),) = part.session({**batch.feeds, **given}).items()
        errors = (_of_samples(values, batch) - output for values in (alone, found[part.quantized]))
        sums[at] = [float(np.square(values).sum()) for values in (output, *errors)]
    watcher().advanced("depth", batch.count)
    return sums


def _of_samples(values: NDArray[np.generic], batch: Batch) -> NDArray[np.float64]:
    """Without the samples that only fill the batch."""
    return np.asarray(values[: batch.count] if len(values) == batch.size else values, np.float64)
