"""The samples that a quantized model does worst on, with its answer and the float model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.target import MetricName
from quant_core.execution.machine import Machine
from quant_core.model.inputs import model_data
from quant_core.model.prepare import prepared_graph
from quant_core.model.sessions import open_file
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.compared import Compared
from quant_core.scoring.evaluation import compared_by, outputs_by_batch, reference_arrays
from quant_core.scoring.thumbnails import thumbnail
from quant_core.storage.columns import Column
from quant_core.storage.data import Dataset
from quant_core.storage.references import Reference, fetch
from quant_core.storage.tables import SAMPLES, facts

__all__ = ["SHOWN", "worst_rows", "worst_samples"]

SHOWN = 8
"""Samples, at most."""

Array = NDArray[np.generic]


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
    graph = prepared_graph(facts(layers)["prepared"], machine.cache)
    dataset, names = model_data(graph, data, machine.cache), tuple(baseline.column_names)
    outputs, floats = compared_by(graph, names), reference_arrays(baseline)
    by_class = dataset.labels is not None or outputs.classes.probabilities or metric in ("top1_drop", "kl")
    session = (profile_of(runtime).opens or open_file)(fetch(exported, machine.cache))
    answers: dict[int, Mapping[str, Any]] = {}
    seen_rows = np.sort(rows)
    batches = outputs_by_batch(session, graph, dataset, seen_rows, names, 1, machine, "verify", lambda _, made: made)
    for seen, found in batches:
        for place, row in enumerate(seen):
            exact = [_sample(floats[name], row) for name in names]
            answers[int(row)] = _answers(outputs, exact, [found[name][place] for name in names], by_class)
    return pa.Table.from_pylist(
        [
            {
                "sample": int(row),
                "l2": float(l2),
                "label": _label(dataset, row),
                "picture": _picture(dataset, row),
                **answers[int(row)],
            }
            for row, l2 in zip(rows, distances, strict=True)
        ],
        schema=SAMPLES,
    )


def _answers(outputs: Compared, exact: list[Array], found: list[Array], by_class: bool) -> Mapping[str, Any]:
    """Return what both models say of a sample: the class of each, or the values that differ most.

    Without labels, probabilities or a metric of classes, an output of one axis may as well be an embedding.
    """
    classes = outputs.classes
    if by_class and classes.known and exact[classes.output].squeeze().ndim == 1 and exact[classes.output].size > 1:
        before, after = exact[classes.output].ravel(), found[classes.output].ravel()
        one, other = int(before.argmax()), int(after.argmax())
        place = {"output": outputs.names[classes.output], "float_class": one, "shipped_class": other}
        return {**place, "place": None, "float": float(before[one]), "shipped": float(after[other])}
    differences = [np.abs(np.subtract(b, a, dtype=np.float64)) for b, a in zip(exact, found, strict=True)]
    output = int(np.argmax([one.max(initial=0) for one in differences]))
    place_of = np.unravel_index(int(np.nanargmax(differences[output])), differences[output].shape)
    return {
        "output": outputs.names[output],
        "float_class": None,
        "shipped_class": None,
        "place": [int(index) for index in place_of],
        "float": float(exact[output][place_of]),
        "shipped": float(found[output][place_of]),
    }


def _label(data: Dataset, row: int) -> int | None:
    """Return the label of a sample, where it has one."""
    label = None if data.labels is None else np.asarray(data.labels[row])
    return int(label) if label is not None and label.size == 1 and label.dtype.kind in "iu" else None


def _picture(data: Dataset, row: int) -> bytes | None:
    """Return a picture of the first input that is one."""
    pictures = (thumbnail(_sample(column, row)) for column in data.columns.values())
    return next((picture for picture in pictures if picture is not None), None)


def _sample(column: Column, row: int) -> Array:
    found: Array = np.asarray(column[np.array([row])])[0]
    return found
