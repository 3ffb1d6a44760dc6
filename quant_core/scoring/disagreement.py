"""The samples on which two quantized models are furthest apart, with their answers and the float model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.execution.machine import Machine
from quant_core.model.data.batches import Batch, in_row_order
from quant_core.model.data.fitted_data import model_data
from quant_core.model.data.sample_outputs import ForwardPasses, Outputs, sample_outputs
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import OpenModel
from quant_core.scoring.compared import Compared, compared_of
from quant_core.scoring.float_outputs import reference_arrays
from quant_core.scoring.terms import Terms, sample_terms, terms_table
from quant_core.scoring.worst_samples import Answer, answers, label_of, picture_of, worst_rows
from quant_core.storage.references import Reference

__all__ = ["Disagreement", "disagreements"]

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Disagreement:
    """A sample on which two models differ."""

    sample: int
    """Its place in the data, counted from 0."""
    distance: float
    """L2 distance of the outputs of one from those of the other."""
    label: int | None
    """The right class; None where none is known."""
    picture: bytes | None
    """The sample as a PNG file; None where it is no image."""
    answers: tuple[Answer, Answer, Answer]
    """Of the float model, the first one and the second one, where these two differ most."""


def disagreements(
    first: OpenModel,
    second: OpenModel,
    layers: pa.Table,
    baseline: pa.Table,
    data: Reference,
    batch_size: int | None,
    machine: Machine,
) -> list[Disagreement]:
    """Return the samples on which the outputs of two models are furthest apart, the furthest first.

    Args:
        first: one of the models, as its runtime opens it.
        second: the other one.
        layers: layer table of the prepared float model (schema LAYERS).
        baseline: outputs of the float model on all samples.
        data: the samples.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads and cache.

    """
    graph = prepared_graph(layers, machine.cache)
    dataset, names = model_data(graph, data, machine.cache), baseline.column_names
    outputs, floats = compared_of(graph, names), reference_arrays(baseline)

    def both(batch: Batch, found: Outputs) -> tuple[list[Array], list[Array]]:
        return list(found.values()), list(sample_outputs(second, batch, names).values())

    def apart(batch: Batch, found: Outputs) -> Terms:
        return sample_terms(*both(batch, found), None, outputs)

    passes = ForwardPasses.over_all(graph, dataset, batch_size, machine)
    seen, terms = zip(*passes.outputs(first, names, "evaluate", apart), strict=True)
    table, order = terms_table(terms), in_row_order(seen)
    rows, distances = worst_rows(table if order is None else table.take(order), "l2")
    by_class = dataset.labels is not None or outputs.classes.probabilities
    told: dict[int, tuple[Answer, Answer, Answer]] = {}
    again = replace(passes, rows=np.sort(rows))
    for numbers, pair in again.outputs(first, names, "evaluate", both):
        for place, row in enumerate(numbers):
            exact = [np.asarray(floats[name][np.array([row])])[0] for name in names]
            one, other = ([array[place] for array in arrays] for arrays in pair)
            told[int(row)] = _three(outputs, exact, one, other, by_class)
    return [
        Disagreement(int(row), float(far), label_of(dataset, row), picture_of(dataset, row), told[int(row)])
        for row, far in zip(rows, distances, strict=True)
    ]


def _three(
    outputs: Compared, exact: Sequence[Array], one: Sequence[Array], other: Sequence[Array], by_class: bool
) -> tuple[Answer, Answer, Answer]:
    """Return the answers of the float model and of two others, where these two differ most."""
    ours, theirs = answers(outputs, one, other, by_class)
    if ours.place is None:
        return answers(outputs, exact, one, by_class)[0], ours, theirs
    values = exact[outputs.names.index(ours.output)]
    return Answer(ours.output, None, ours.place, float(values[ours.place])), ours, theirs
