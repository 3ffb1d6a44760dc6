"""The samples that a quantized model does worst on, with its answer and the float model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.criterion import MetricName
from quant_core.execution.machine import Machine
from quant_core.model.data.fitted_data import model_data
from quant_core.model.data.sample_outputs import ForwardPasses
from quant_core.model.prepared_model import prepared_graph
from quant_core.scoring.compared import Compared, compared_of
from quant_core.scoring.float_outputs import reference_arrays
from quant_core.scoring.shipped_file import open_shipped
from quant_core.scoring.thumbnails import thumbnail
from quant_core.storage.columns import Column
from quant_core.storage.data import Dataset
from quant_core.storage.references import Reference
from quant_core.storage.schemas import SAMPLES

__all__ = ["SHOWN", "Answer", "answers", "label_of", "picture_of", "worst_rows", "worst_samples"]

SHOWN = 8
"""Samples, at most."""

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Answer:
    """What a model says of a sample: a class, or a value."""

    output: str
    """Name of the output that says it."""
    number: int | None
    """The class; None where the answer is a value."""
    place: tuple[int, ...] | None
    """Where the value is in the output of one sample; None where the answer is a class."""
    value: float
    """The value, or that of the class."""


def worst_rows(scores: pa.Table, metric: MetricName) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the samples that add most to what a metric finds wrong, the worst first, and the L2 distance of each.

    By answers that were right and are wrong now, for a target on top-1; then by the metric's own term of a sample, or
    where it has none by the L2 distance. Samples without an error are none of them.
    """
    known = {name: scores.column(name).to_numpy() for name in ("l2", "error", "cosine")}
    distances = known["l2"]
    term = known.get({"sqnr_db": "error", "cosine": "cosine"}.get(metric, "l2"), distances)
    if metric == "kl" and not scores.column("kl").null_count:
        term = scores.column("kl").to_numpy()
    lost = np.zeros(len(term))
    if metric == "top1_drop" and not scores.column("top1").null_count:
        lost = scores.column("float_top1").to_numpy() - scores.column("top1").to_numpy()
    order = np.lexsort((np.arange(len(term)), -term, -lost))[:SHOWN]
    found = order[distances[order] > 0]
    return found, distances[found]


def worst_samples(
    exported: Reference,
    layers: pa.Table,
    baseline: pa.Table,
    scores: pa.Table,
    data: Reference,
    metric: MetricName,
    machine: Machine,
    runtime: str = "reference",
) -> pa.Table:
    """Return the samples that a model file does worst on, the worst first (schema SAMPLES).

    Args:
        exported: the model file.
        layers: layer table of the prepared model.
        baseline: outputs of the float model on all samples.
        scores: terms of the file on the same samples (schema SCORES).
        data: the samples.
        metric: what is wrong by (see `worst_rows`).
        machine: threads and cache.
        runtime: as what the file is opened.

    """
    rows, distances = worst_rows(scores, metric)
    if not len(rows):
        return SAMPLES.empty_table()
    graph = prepared_graph(layers, machine.cache)
    dataset, names = model_data(graph, data, machine.cache), tuple(baseline.column_names)
    outputs, floats = compared_of(graph, names), reference_arrays(baseline)
    by_class = dataset.labels is not None or outputs.classes.probabilities or metric in ("top1_drop", "kl")
    session = open_shipped(exported, graph, runtime, machine)
    told: dict[int, dict[str, Any]] = {}
    passes = ForwardPasses(graph, dataset, np.sort(rows), 1, machine)
    for seen, found in passes.outputs(session, names, "verify", lambda _, made: made):
        for place, row in enumerate(seen):
            exact = [_sample(floats[name], row) for name in names]
            told[int(row)] = _columns(*answers(outputs, exact, [found[name][place] for name in names], by_class))
    return pa.Table.from_pylist(
        [
            {
                "sample": int(row),
                "l2": float(l2),
                "label": label_of(dataset, row),
                "picture": picture_of(dataset, row),
                **told[int(row)],
            }
            for row, l2 in zip(rows, distances, strict=True)
        ],
        schema=SAMPLES,
    )


def answers(
    outputs: Compared, first: Sequence[Array], second: Sequence[Array], by_class: bool
) -> tuple[Answer, Answer]:
    """Return what two models say of a sample: the class of each, or the values that differ most.

    Without labels, probabilities or a metric of classes, an output of one axis may as well be an embedding.
    """
    classes = outputs.classes
    if by_class and classes.known and first[classes.output].squeeze().ndim == 1 and first[classes.output].size > 1:
        one, other = (_class_of(outputs, arrays[classes.output].ravel()) for arrays in (first, second))
        return one, other
    differences = [np.abs(np.subtract(b, a, dtype=np.float64)) for b, a in zip(first, second, strict=True)]
    output = int(np.argmax([one.max(initial=0) for one in differences]))
    index = np.unravel_index(int(np.nanargmax(differences[output])), differences[output].shape)
    name, place = outputs.names[output], tuple(map(int, index))
    one, other = (Answer(name, None, place, float(arrays[output][place])) for arrays in (first, second))
    return one, other


def _class_of(outputs: Compared, values: Array) -> Answer:
    best = int(values.argmax())
    return Answer(outputs.names[outputs.classes.output], best, None, float(values[best]))


def _columns(before: Answer, after: Answer) -> dict[str, Any]:
    """Return the answers of the float and of the shipped model as columns of the schema SAMPLES."""
    return {
        "output": before.output,
        "float_class": before.number,
        "shipped_class": after.number,
        "place": before.place,
        "float": before.value,
        "shipped": after.value,
    }


def label_of(data: Dataset, row: int) -> int | None:
    """Return the label of a sample, where it has one."""
    label = None if data.labels is None else np.asarray(data.labels[row])
    return int(label) if label is not None and label.size == 1 and label.dtype.kind in "iu" else None


def picture_of(data: Dataset, row: int) -> bytes | None:
    """Return a picture of the first input that is one."""
    pictures = (thumbnail(_sample(column, row)) for column in data.columns.values())
    return next((picture for picture in pictures if picture is not None), None)


def _sample(column: Column, row: int) -> Array:
    found: Array = np.asarray(column[np.array([row])])[0]
    return found
