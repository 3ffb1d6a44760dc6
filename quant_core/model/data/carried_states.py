"""Runs sequences step by step, each step fed with the states that the one before gave; or gives the steps out singly.

What scores a model runs it on whole sequences and carries the states that it gives itself, so that errors add up as
they do in the application. What looks at single passes (calibration, probes, rounding of weights, timing) takes each
step as a sample, with the states that the float model carried. This is teacher forcing (Williams and Zipser, A learning
algorithm for continually running fully recurrent neural networks, Neural Computation 1, 1989).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.fitted_data import model_data
from quant_core.model.data.sequences import as_steps, step_counts
from quant_core.model.graph import FloatGraph
from quant_core.model.sessions import OpenModel, fast_numerics, open_nodes
from quant_core.model.signature import Signature
from quant_core.storage.columns import are_intact, mapped_columns, unpack_columns
from quant_core.storage.data import Dataset
from quant_core.storage.mapped import spilled
from quant_core.storage.references import Reference, atomic_folder

__all__ = ["outputs_by_step", "step_data"]

Arrays = Mapping[str, NDArray[np.generic]]


def outputs_by_step(session: OpenModel, batch: Batch) -> Iterator[tuple[Arrays, Arrays]]:
    """Yield what is fed and what comes out at each step of a batch's sequences; once where a model has no states."""
    steps = min((array.shape[1] for array in batch.sequences.values()), default=1)
    feeds, found = batch.feeds, session(batch.feeds)
    yield feeds, found
    for step in range(1, steps):
        feeds = batch.at_step(step, {name: found[output] for name, output in batch.signature.states.items()})
        found = session(feeds)
        yield feeds, found


def step_data(graph: FloatGraph, reference: Reference, cache: Path) -> Dataset:
    """Open referenced data for single passes of a prepared model: each step is an entry, with its states.

    For these the float model runs over all sequences, once; they are kept in the cache. Of a model without states it
    is `model_data`. Raises InputError for a state that changes its shape.
    """
    data, states = model_data(graph, reference, cache), Signature.of(graph).states
    if not states:
        return data
    # A prepared model is in a folder that is named by its digest.
    key = hashlib.sha256(f"{graph.folder.name} {reference.sha256}".encode()).hexdigest()
    folder = cache / "states" / key
    with _one_at_a_time:
        if folder.exists() and not are_intact(folder):
            shutil.rmtree(folder)
        if not folder.exists():
            with atomic_folder(folder) as building:
                found = _carried(graph, data, states, cache)
                unpack_columns(found.items(), f"states on {reference}", building)
    columns, _ = mapped_columns(folder)
    return as_steps(data, columns)


_one_at_a_time = Lock()
"""Held while states are looked for: what one thread is computing others wait for."""


def _carried(
    graph: FloatGraph, data: Dataset, states: Mapping[str, str], cache: Path
) -> dict[str, NDArray[np.generic]]:
    """Return the states that each step of all samples begins with, one after the other."""
    session = open_nodes(graph, graph.nodes, list(dict.fromkeys(states.values())), {}, fast_numerics(graph))
    starts, signature = np.concatenate([[0], np.cumsum(step_counts(data, states))]), Signature.of(graph)
    found: dict[str, NDArray[np.generic]] = {}
    for batch in batches(graph, data):
        for step, (feeds, _) in enumerate(outputs_by_step(session, batch)):
            for name in states:
                values = np.moveaxis(feeds[name], signature.input(name).axis or 0, 0)[: batch.count]
                if name not in found:
                    found[name] = spilled(cache, values.dtype, (int(starts[-1]), *values.shape[1:]))
                if values.shape[1:] != found[name].shape[1:]:
                    before, now = (list(array.shape[1:]) for array in (found[name], values))
                    raise InputError(f"states: {name} changes its shape from step to step ({before}, then {now})")
                found[name][starts[batch.rows] + step] = values
    return found
