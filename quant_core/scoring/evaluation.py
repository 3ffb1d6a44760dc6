"""Scores a model on a data set: the float model, a plan in simulation, or a file as it is shipped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches, in_row_order
from quant_core.model.data.carried_states import outputs_by_step
from quant_core.model.data.fitted_data import model_data
from quant_core.model.data.labels import fitting_labels
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import types_kept
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import Numerics, OpenModel, fast_numerics, open_file, open_nodes
from quant_core.precision import PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.scoring.collected import collected
from quant_core.scoring.compared import Compared, compared_of, compared_outputs
from quant_core.scoring.metrics import Terms, sample_terms, terms_table
from quant_core.scoring.sampling import Samples
from quant_core.scoring.shipped_file import open_shipped
from quant_core.scoring.user_function import call_function, finite_number, load_function
from quant_core.storage.data import Column, Dataset, samples_of
from quant_core.storage.mapped import let_go
from quant_core.storage.ragged import RaggedColumn
from quant_core.storage.references import Reference, fetch
from quant_core.storage.tables import facts, with_facts

__all__ = [
    "compared_by",
    "compared_outputs",
    "evaluate_plan",
    "float_outputs",
    "outputs_by_batch",
    "reference_arrays",
    "sample_outputs",
    "score_file",
]

Outputs = dict[str, NDArray[np.generic]]
Made = TypeVar("Made")


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
    graph = prepared_graph(layers, machine.cache)
    dataset = model_data(graph, data, machine.cache)
    names = compared_outputs(graph, output)
    if types_kept(graph) or graph.inside:
        # A model in float16 is compared in float32, as it is calibrated; the file does not give tensors inside.
        session = open_nodes(graph, graph.nodes, graph.compared, {}, fast_numerics(graph))
    else:
        session = open_file(fetch(model, machine.cache), fast_numerics(graph))
    rows = np.arange(dataset.count)
    parts = outputs_by_batch(session, graph, dataset, rows, names, batch_size, machine, "baseline", _outputs_alone)
    whole = collected(parts, names, machine.cache)
    for name, array in whole.items():
        _refuse_incomparable(name, array, dataset.source)
    columns = {name: _listed(array) for name, array in whole.items()}
    shapes = {name: _shape_of(array)[1:] for name, array in whole.items()}
    metric = _user_metric(function, whole, dataset.labels)
    return with_facts(pa.table(columns), shapes=shapes, metric=metric)


def _outputs_alone(batch: Batch, found: Outputs) -> Outputs:
    return found


def _refuse_incomparable(name: str, array: Column, source: str) -> None:
    """Raise InputError for a float output that holds no value, or a NaN."""
    count, size = len(array), (array.values if isinstance(array, RaggedColumn) else array).size
    if not size:
        raise InputError(f"output {name!r} holds no value (shape {_shape_of(array)}): there is nothing to compare")
    bad = _rows_with_nan(array) if array.dtype.kind == "f" else []
    let_go(array)
    if bad:
        raise InputError(
            f"the float model computes a NaN in output {name!r} of sample {bad[0]} of {source} "
            f"({len(bad)} of {count} samples have one): there is nothing to compare it with"
        )


_BLOCK = 1 << 20
"""Values that are looked at at once."""


def _rows_with_nan(array: Column) -> list[int]:
    if isinstance(array, RaggedColumn):
        return [row for row in range(len(array)) if np.isnan(array.sample(row)).any()]
    step = max(_BLOCK * len(array) // array.size, 1)
    blocks = (np.isnan(array[first : first + step]) for first in range(0, len(array), step))
    return np.flatnonzero(np.concatenate([block.reshape(len(block), -1).any(axis=1) for block in blocks])).tolist()


def _shape_of(column: Column) -> list[Any]:
    """The shape of an output, as JSON has it: where samples differ, that of each behind the number of samples."""
    if isinstance(column, RaggedColumn):
        return [len(column), *(list(shape) for shape in column.shapes)]
    return list(column.shape)


def _listed(array: Column) -> pa.Array:
    """Return an output as a column of lists, without a copy of its values."""
    if isinstance(array, RaggedColumn):
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in array.shapes)], dtype=np.int64)
        return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(array.values))
    width = max(array[0].size, 1)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), width)


def _user_metric(
    function: str | None, outputs: Mapping[str, Column], labels: NDArray[np.generic] | None
) -> float | None:
    if function is None:
        return None
    given = {name: samples_of(column) for name, column in outputs.items()}
    return finite_number(function, call_function(function, load_function(function), given, labels))


def evaluate_plan(
    recipe: QuantizationRecipe,
    baseline: pa.Table,
    samples: Samples,
    plan: Mapping[str, str],
    function: str | None,
    batch_size: int | None,
    machine: Machine,
    tensors: Mapping[str, str] | None = None,
    fast: bool = False,
) -> pa.Table:
    """Score a plan in simulation (schema SCORES); on the CPU, bit for bit as the pairs of its exported file say.

    Where it is to be `fast`, sums round differently in the last bit, and a value now and then to the next code.

    Args:
        recipe: what its numbers follow from.
        baseline: outputs of the float model on all samples.
        samples: those to score; a user's metric wants all.
        plan: the precision of each layer, by name.
        function: a user's metric as `pkg.mod:fn`, or None.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads and cache.
        tensors: types of single tensors, by name.
        fast: whether ONNX Runtime may optimise what is between the pairs.

    """
    quantizer = quantizer_of(recipe, machine)
    graph = quantizer.graph
    writer = PlanWriter(quantizer, folded=not graph.is_large)
    nodes = writer.write(PrecisionPlan.from_dict(plan, tensors)).nodes
    numerics = fast_numerics(graph) if fast else Numerics.SHIPPED
    session = open_nodes(graph, nodes, graph.compared, writer.constants, numerics, providers=recipe.providers)
    rows = samples.rows(baseline.num_rows)
    return _score(session, graph, samples.data, baseline, function, rows, batch_size, machine)


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
    graph = prepared_graph(layers, machine.cache)
    session = open_shipped(exported, graph, runtime, machine)
    rows = np.arange(baseline.num_rows)
    return _score(session, graph, data, baseline, function, rows, batch_size, machine)


def _score(
    session: OpenModel,
    graph: FloatGraph,
    data: Reference,
    baseline: pa.Table,
    function: str | None,
    rows: NDArray[np.intp],
    batch_size: int | None,
    machine: Machine,
) -> pa.Table:
    dataset = model_data(graph, data, machine.cache)
    names = tuple(baseline.column_names)
    outputs, reference = compared_by(graph, names), reference_arrays(baseline)

    def terms_of(batch: Batch, found: Outputs) -> tuple[Terms, Outputs]:
        exact = [_comparable(reference[name][batch.rows], found[name], name) for name in names]
        terms = sample_terms(exact, list(found.values()), _labels(dataset, batch, exact, outputs), outputs)
        for name in names:
            let_go(reference[name])
        return terms, found if function else {}

    visited: list[NDArray[np.intp]] = []
    terms: list[Terms] = []

    def outputs_of_all() -> Iterator[tuple[NDArray[np.intp], Outputs]]:
        """Keep the terms of each batch on the way."""
        for seen, (found, kept) in outputs_by_batch(
            session, graph, dataset, rows, names, batch_size, machine, "evaluate", terms_of
        ):
            visited.append(seen)
            terms.append(found)
            yield seen, kept

    metric = None
    if function is None:
        deque(outputs_of_all(), maxlen=0)
    else:
        metric = _user_metric(function, collected(outputs_of_all(), names, machine.cache), dataset.labels)
    order = in_row_order(visited)
    table = terms_table(terms) if order is None else terms_table(terms).take(order)
    return table if function is None else with_facts(table, metric=metric)


def _comparable(exact: NDArray[np.generic], found: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """The float model's values; raises InputError where the quantized model's are of another shape."""
    if exact.shape != found.shape:
        raise InputError(
            f"output {name!r} has shape {list(found.shape[1:])} in the quantized model, {list(exact.shape[1:])} in the "
            "float one: compare another output"
        )
    return exact


def _labels(
    data: Dataset, batch: Batch, exact: Sequence[NDArray[np.generic]], outputs: Compared
) -> NDArray[np.generic] | None:
    """The labels of a batch, if they are classes of what is compared; of shorter sequences without what pads them."""
    if data.labels is None or not outputs.classes.known:
        return None
    shape, found = exact[outputs.classes.output].shape, outputs.classes
    labels = data.labels[batch.rows]
    if batch.sequences and labels.ndim > 1:
        labels = labels[:, : shape[1]]
    return fitting_labels(labels, shape, found.axis) if len(shape) > found.axis else None


def compared_by(graph: FloatGraph, names: Sequence[str]) -> Compared:
    """Return what a baseline of these outputs is compared by."""
    return compared_of(graph, tuple(names))


def reference_arrays(baseline: pa.Table) -> Mapping[str, Column]:
    """The float outputs a baseline table holds, in their own shapes."""
    shapes = facts(baseline)["shapes"]
    found: dict[str, Column] = {}
    for name in baseline.column_names:
        column = baseline.column(name)
        # Arrow copies what it combines, be it one chunk.
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        values = whole.flatten().to_numpy(zero_copy_only=False)
        if shapes[name] and isinstance(shapes[name][0], list):
            found[name] = RaggedColumn(values, [(1, tuple(shape)) for shape in shapes[name]])
        else:
            found[name] = values.reshape(-1, *shapes[name])
    return found


def outputs_by_batch(
    session: OpenModel,
    graph: FloatGraph,
    data: Dataset,
    rows: NDArray[np.intp],
    names: Sequence[str],
    batch_size: int | None,
    machine: Machine,
    stage: str,
    of_batch: Callable[[Batch, Outputs], Made],
) -> Iterator[tuple[NDArray[np.intp], Made]]:
    """Yield the rows of each batch, and what `of_batch` makes of its named outputs, which are not kept.

    Rows that only fill up a fixed batch are cut off.
    """
    watcher().expects(stage, len(rows))

    def made_of(batch: Batch) -> tuple[NDArray[np.intp], Made]:
        made = of_batch(batch, sample_outputs(session, batch, names))
        watcher().advanced(stage, batch.count)
        return batch.rows, made

    return ordered_map(made_of, batches(graph, data, batch_size, rows, machine.memory), machine.workers)


def sample_outputs(session: OpenModel, batch: Batch, names: Sequence[str]) -> Outputs:
    """Outputs for the samples of a batch: of sequences those of all steps, [samples, steps, ...]."""
    steps = [
        {name: per_sample(found[name], name, batch) for name in names} for _, found in outputs_by_step(session, batch)
    ]
    for name in names:
        shapes = {step[name].shape for step in steps}
        if len(shapes) > 1:
            listed = " and ".join(str(list(shape[2:])) for shape in sorted(shapes)[:2])
            raise InputError(f"output {name!r} changes its shape from step to step ({listed}): compare another output")
    return {name: steps[0][name] if len(steps) == 1 else np.concatenate([s[name] for s in steps], 1) for name in names}


def per_sample(array: NDArray[np.generic], name: str, batch: Batch) -> NDArray[np.generic]:
    """An output's rows for the samples of a batch, each as a sequence of one step where the model has states.

    Raises InputError when it has no axis for them.
    """
    axis = batch.signature.output(name).axis or 0
    rows = np.moveaxis(array, axis, 0) if 0 < axis < array.ndim else array
    if array.ndim == 0 or len(rows) % batch.size:
        raise InputError(
            f"output {name!r} has shape {list(array.shape)} for a batch of {batch.size}: its "
            f"{'first axis' if axis == 0 else f'axis {axis}'} is not the batch; say which: --sample-axis {name}=AXIS"
        )
    if len(rows) != batch.size:
        rows = rows.reshape(batch.size, len(rows) // batch.size, *rows.shape[1:])
    return rows[: batch.count, np.newaxis] if batch.signature.states else rows[: batch.count]
