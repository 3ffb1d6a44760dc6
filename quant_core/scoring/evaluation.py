"""Scores a model on a data set against the float model: a plan in simulation, or a file as it is shipped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.data.batches import Batch, in_row_order
from quant_core.model.data.fitted_data import model_data
from quant_core.model.data.labels import fitting_labels
from quant_core.model.data.sample_outputs import ForwardPasses, Outputs
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import Numerics, OpenModel, fast_numerics, open_nodes
from quant_core.precision import PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.scoring.collected import collected
from quant_core.scoring.compared import Compared, compared_of
from quant_core.scoring.float_outputs import reference_arrays
from quant_core.scoring.sampling import Samples
from quant_core.scoring.shipped_file import open_shipped
from quant_core.scoring.terms import Terms, sample_terms, terms_table
from quant_core.scoring.user_function import user_metric
from quant_core.storage.data import Dataset
from quant_core.storage.mapped import let_go
from quant_core.storage.references import Reference
from quant_core.storage.tables import with_facts

__all__ = ["evaluate_plan", "score_file"]


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
    dataset, rows = model_data(graph, samples.data, machine.cache), samples.rows(baseline.num_rows)
    return _score(session, ForwardPasses(graph, dataset, rows, batch_size, machine), baseline, function)


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
    """Score a model file, loaded afresh and opened as a runtime opens it (schema SCORES).

    Args:
        exported: the file.
        layers: layer table of the prepared float model (schema LAYERS).
        baseline: outputs of the float model on all samples.
        data: the samples.
        function: a user's metric as `pkg.mod:fn`, or None.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads and cache.
        runtime: the runtime's name.
        processor: where this is, if numbers depend on it: scores of one are not taken for another's.

    """
    graph = prepared_graph(layers, machine.cache)
    session = open_shipped(exported, graph, runtime, machine)
    dataset, rows = model_data(graph, data, machine.cache), np.arange(baseline.num_rows)
    return _score(session, ForwardPasses(graph, dataset, rows, batch_size, machine), baseline, function)


def _score(session: OpenModel, passes: ForwardPasses, baseline: pa.Table, function: str | None) -> pa.Table:
    names, data = tuple(baseline.column_names), passes.data
    outputs, reference = compared_of(passes.graph, names), reference_arrays(baseline)

    def terms_of(batch: Batch, found: Outputs) -> tuple[Terms, Outputs]:
        exact = [_comparable(reference[name][batch.rows], found[name], name) for name in names]
        terms = sample_terms(exact, list(found.values()), _labels(data, batch, exact, outputs), outputs)
        for name in names:
            let_go(reference[name])
        return terms, found if function else {}

    visited: list[NDArray[np.intp]] = []
    terms: list[Terms] = []

    def outputs_of_all() -> Iterator[tuple[NDArray[np.intp], Outputs]]:
        """Keep the terms of each batch on the way."""
        for seen, (found, kept) in passes.outputs(session, names, "evaluate", terms_of):
            visited.append(seen)
            terms.append(found)
            yield seen, kept

    metric = None
    if function is None:
        deque(outputs_of_all(), maxlen=0)
    else:
        metric = user_metric(function, collected(outputs_of_all(), names, passes.machine.cache), data.labels)
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
