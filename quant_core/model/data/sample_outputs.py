"""What a model gives for the samples of a batch, whatever its axes and states are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import outputs_by_step
from quant_core.model.graph import FloatGraph
from quant_core.model.sessions import OpenModel
from quant_core.storage.data import Dataset

__all__ = ["ForwardPasses", "Outputs", "per_sample", "sample_outputs"]

Outputs = dict[str, NDArray[np.generic]]
"""Outputs by name, each [samples, ...]."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class ForwardPasses:
    """Samples of a data set, and how models are run over them: the float model, or what was made of it."""

    graph: FloatGraph
    """The float model."""
    data: Dataset
    """The data set."""
    rows: NDArray[np.intp]
    """Numbers of the samples in it."""
    batch_size: int | None
    """Samples a forward pass, or None for the model's default."""
    machine: Machine
    """Threads and memory."""

    @classmethod
    def over_all(cls, graph: FloatGraph, data: Dataset, batch_size: int | None, machine: Machine) -> ForwardPasses:
        """Return the passes over all samples of a data set."""
        return cls(graph, data, np.arange(data.count), batch_size, machine)

    def batches(self) -> Iterator[Batch]:
        """Yield the samples as they are fed."""
        return batches(self.graph, self.data, self.batch_size, self.rows, self.machine.memory)

    def outputs(
        self, session: OpenModel, names: Sequence[str], stage: str, of_batch: Callable[[Batch, Outputs], Made]
    ) -> Iterator[tuple[NDArray[np.intp], Made]]:
        """Yield the rows of each batch, and what `of_batch` makes of its named outputs, which are not kept.

        Rows that only fill up a fixed batch are cut off. `stage` is told how many samples are done.
        """
        watcher().expects(stage, len(self.rows))

        def made_of(batch: Batch) -> tuple[NDArray[np.intp], Made]:
            made = of_batch(batch, sample_outputs(session, batch, names))
            watcher().advanced(stage, batch.count)
            return batch.rows, made

        return ordered_map(made_of, self.batches(), self.machine.workers)


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
