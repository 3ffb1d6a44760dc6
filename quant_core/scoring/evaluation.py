"""Scores a model on a data set: the float model, a plan in simulation, or a file as it is shipped."""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.quantization import QuantizationConfig
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.graph import FloatGraph
from quant_core.model.inputs import Batch, batches, check_inputs
from quant_core.model.prepare import prepared_graph
from quant_core.model.sessions import Numerics, Session, open_file, open_nodes
from quant_core.precision import PrecisionPlan
from quant_core.quantization.qdq import PlanWriter
from quant_core.quantization.quantizer_cache import quantizer_of
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.metrics import load_function, sample_terms, terms_table
from quant_core.scoring.sampling import visited
from quant_core.storage.data import Dataset, open_dataset
from quant_core.storage.references import Reference, fetch
from quant_core.storage.tables import facts, with_facts

__all__ = ["compared_outputs", "evaluate_plan", "float_outputs", "score_file"]

Outputs = dict[str, NDArray[np.generic]]


def compared_outputs(graph: FloatGraph, output: int | str) -> tuple[str, ...]:
    """Names of the outputs a choice (index, name or `all`) stands for; raises InputError for no such output."""
    if output == "all":
        return graph.outputs
    if isinstance(output, str) and not output.isdecimal():
        if output in graph.outputs:
            return (output,)
    elif int(output) < len(graph.outputs):
        return (graph.outputs[int(output)],)
    raise InputError(f"output {output!r}: the model has {', '.join(f'{i}: {n}' for i, n in enumerate(graph.outputs))}")


def float_outputs(
    model: Reference,
    layers: pa.Table,
    data: Reference,
    output: int | str,
    function: str | None,
    batch_size: int | None,
    machine: Machine,
) -> pa.Table:
    """The float model's compared outputs, one row a sample, one column an output (flattened).

    The facts hold each output's shape, and the user's metric `function` of them if there is one.
    """
    graph = prepared_graph(facts(layers)["prepared"], machine.cache)
    dataset = open_dataset(data, machine.cache)
    check_inputs(graph, dataset)
    names = compared_outputs(graph, output)
    # Here the last bit does not matter; but FAST packs every weight into memory once more, which are mapped otherwise.
    numerics = Numerics.SHIPPED if graph.is_large else Numerics.FAST
    session = open_file(fetch(model, machine.cache), numerics)
    rows = np.arange(dataset.count)
    parts = [found for _, found in _run(session, graph, dataset, rows, names, batch_size, machine, "baseline")]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in names}
    for name, array in whole.items():
        if not array.size:
            raise InputError(f"output {name!r} holds no value (shape {list(array.shape)}): there is nothing to compare")
        if array.dtype.kind == "f" and np.isnan(array).any():
            rows = np.flatnonzero(np.isnan(array).reshape(len(array), -1).any(axis=1))
            raise InputError(
                f"the float model computes a NaN in output {name!r} of sample {rows[0]} of {dataset.source} "
                f"({len(rows)} of {len(array)} samples have one): there is nothing to compare it with"
            )
    columns = {name: _fixed_size(array) for name, array in whole.items()}
    shapes = {name: list(array.shape[1:]) for name, array in whole.items()}
    metric = _user_metric(function, whole, dataset.labels)
    return with_facts(pa.table(columns), shapes=shapes, metric=metric)


def _fixed_size(array: NDArray[np.generic]) -> pa.FixedSizeListArray:
    width = max(array[0].size, 1)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), width)


def _user_metric(function: str | None, outputs: Outputs, labels: NDArray[np.generic] | None) -> float | None:
    if function is None:
        return None
    call = load_function(function)
    try:
        returned = call(outputs, labels)
    except Exception as error:  # the user's code
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        raise InputError(f"{function}: raised {type(error).__name__}: {error} ({where})") from error
    try:
        value = float(returned)
    except (TypeError, ValueError) as error:
        raise InputError(f"{function}: returned {reprlib.repr(returned)}; it must return a number") from error
    if not np.isfinite(value):
        raise InputError(f"{function}: returned {value}; it must return a finite number")
    return value


def evaluate_plan(
    layers: pa.Table,
    calibration: pa.Table,
    baseline: pa.Table,
    data: Reference,
    plan: Mapping[str, str],
    config: QuantizationConfig,
    function: str | None,
    start: int,
    stop: int,
    batch_size: int | None,
    machine: Machine,
    tensors: Mapping[str, str] | None = None,
    weights: Sequence[pa.Table] = (),
) -> pa.Table:
    """Score (schema SCORES) of a plan in simulation: that of its exported file, bit for bit.

    `plan` and `tensors` are a PrecisionPlan as dictionaries. Samples [start, stop) in the order of visits are
    scored (see `sampling`); a user's metric `function` wants all.
    """
    quantizer = quantizer_of(layers, calibration, config, machine, weights)
    graph = quantizer.graph
    writer = PlanWriter(quantizer, folded=not graph.is_large)
    nodes = writer.write(PrecisionPlan.from_dict(plan, tensors)).nodes
    session = open_nodes(graph, nodes, graph.outputs, writer.constants)
    rows = visited(baseline.num_rows, start, stop)
    return _score(session, graph, data, baseline, function, rows, batch_size, machine)


def score_file(
    exported: Reference,
    layers: pa.Table,
    baseline: pa.Table,
    data: Reference,
    function: str | None,
    batch_size: int | None,
    machine: Machine,
    runtime: str = "reference",
    processor: str = "",
) -> pa.Table:
    """Score (schema SCORES) of a model file, loaded afresh and opened as a runtime opens it.

    `processor` says where, for runtimes whose numbers depend on it: results of one are not taken for another's.
    """
    graph = prepared_graph(facts(layers)["prepared"], machine.cache)
    numerics = Numerics.DEPLOYED if profile_of(runtime).optimized else Numerics.SHIPPED
    session = open_file(fetch(exported, machine.cache), numerics)
    rows = np.arange(baseline.num_rows)
    return _score(session, graph, data, baseline, function, rows, batch_size, machine)


def _score(
    session: Session,
    graph: FloatGraph,
    data: Reference,
    baseline: pa.Table,
    function: str | None,
    rows: NDArray[np.intp],
    batch_size: int | None,
    machine: Machine,
) -> pa.Table:
    dataset = open_dataset(data, machine.cache)
    names = tuple(baseline.column_names)
    reference = reference_arrays(baseline)
    terms, kept = [], []
    for batch, found in _run(session, graph, dataset, rows, names, batch_size, machine, "evaluate"):
        labels = None if dataset.labels is None else dataset.labels[batch.rows]
        terms.append(sample_terms([reference[name][batch.rows] for name in names], list(found.values()), labels))
        if function is not None:
            kept.append(found)
    if function is None:
        return terms_table(terms)
    whole = {name: np.concatenate([part[name] for part in kept]) for name in names}
    return with_facts(terms_table(terms), metric=_user_metric(function, whole, dataset.labels))


def reference_arrays(baseline: pa.Table) -> Outputs:
    """The float outputs a baseline table holds, in their own shapes."""
    shapes = facts(baseline)["shapes"]
    return {
        name: baseline.column(name).combine_chunks().flatten().to_numpy().reshape(-1, *shapes[name])
        for name in baseline.column_names
    }


def _run(
    session: Session,
    graph: FloatGraph,
    data: Dataset,
    rows: NDArray[np.intp],
    names: Sequence[str],
    batch_size: int | None,
    machine: Machine,
    stage: str,
) -> list[tuple[Batch, Outputs]]:
    """Each batch with the named outputs, rows that only fill up a fixed batch cut off."""
    watcher().expects(stage, len(rows))

    def outputs_of(batch: Batch) -> tuple[Batch, Outputs]:
        found = session(batch.feeds)
        watcher().advanced(stage, batch.count)
        return batch, {name: per_sample(found[name], name, batch) for name in names}

    return list(ordered_map(outputs_of, batches(graph, data, batch_size, rows, machine.memory), machine.workers))


def per_sample(array: NDArray[np.generic], name: str, batch: Batch) -> NDArray[np.generic]:
    """An output's rows for the samples of a batch; raises InputError when its first axis is not the batch."""
    fed = max(len(values) for values in batch.feeds.values())
    if array.ndim == 0 or len(array) % fed:
        raise InputError(
            f"output {name!r} has shape {list(array.shape)} for a batch of {fed}: its first axis is not the batch"
        )
    rows = array if len(array) == fed else array.reshape(fed, len(array) // fed, *array.shape[1:])
    return rows[: batch.count]
