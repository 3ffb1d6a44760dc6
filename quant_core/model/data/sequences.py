"""Samples that are sequences of steps, as a model with states has them: an axis of steps behind that of the samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph
from quant_core.model.signature import Signature
from quant_core.storage.data import Column, Dataset
from quant_core.storage.ragged import RaggedColumn

__all__ = ["as_steps", "check_steps", "initial_states", "step_counts", "steps_alone", "with_one_state"]

Array = NDArray[np.generic]


def step_counts(data: Dataset, states: Collection[str]) -> NDArray[np.int64]:
    """Return the number of steps of each sample."""
    return next(_lengths(column) for name, column in data.columns.items() if name not in states)


def _lengths(column: Column) -> NDArray[np.int64]:
    if isinstance(column, RaggedColumn):
        return np.array([shape[0] for shape in column.shapes], np.int64)
    return np.full(len(column), column.shape[1], np.int64)


def check_steps(data: Dataset, states: Collection[str]) -> None:
    """Raise InputError unless all inputs have as many steps in each sample."""
    sequences = {name: _lengths(column) for name, column in data.columns.items() if name not in states}
    first, counts = next(iter(sequences.items()))
    for name, found in sequences.items():
        if (found != counts).any():
            row = int(np.argmax(found != counts))
            raise InputError(
                f"{data.source}: in sample {row} {first} has {counts[row]} steps and {name} {found[row]}; "
                "each step of a sample needs a value of every input"
            )


def initial_states(graph: FloatGraph, signature: Signature, given: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Return the first states of some samples, [count, ...] each: those given, zeros for the others.

    Raises InputError where the model leaves open how large a state is.
    """
    return {
        name: given[name] if name in given else np.zeros((count, *_state_shape(graph, signature, name)), kind)
        for name, kind in ((name, _type_of(graph, name)) for name in signature.states)
    }


def _type_of(graph: FloatGraph, name: str) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(graph.element_type(name)))


def _state_shape(graph: FloatGraph, signature: Signature, name: str) -> tuple[int, ...]:
    """Return the shape of a state for one sample, without the axis of samples."""
    shape, axis = graph.shape(name), signature.input(name).axis or 0
    sizes = None if shape is None else (*shape[:axis], *shape[axis + 1 :])
    if sizes is None or None in sizes:
        raise InputError(
            f"states: the model leaves open how large {name} is, so its first value cannot be zeros: give it in the "
            "data, one a sample"
        )
    return tuple(size for size in sizes if size is not None)


def as_steps(data: Dataset, states: Mapping[str, Column]) -> Dataset:
    """Return data whose rows are single steps, in order, with the states that each begins with."""
    counts = step_counts(data, states)
    columns = {name: steps_alone(column) for name, column in data.columns.items() if name not in states}
    starts = np.concatenate([[0], np.cumsum(counts)])
    return replace(data, columns={**columns, **states}, labels=None, starts=starts)


def steps_alone(column: Column, leading: tuple[int, ...] = ()) -> Column:
    """Return the steps of all samples, one after the other: [samples, steps, ...] as [all steps, ...], without a copy.

    With `leading` axes each has those in front: (1,) makes it a sequence of one step.
    """
    if not isinstance(column, RaggedColumn):
        return column.reshape(-1, *leading, *column.shape[2:])
    runs = [(count * steps, (*leading, *shape)) for count, (steps, *shape) in column.runs]
    if len({shape for _, shape in runs}) > 1:
        return RaggedColumn(column.values, runs)
    values: Array = column.values.reshape(-1, *runs[0][1])
    return values


def with_one_state(graph: FloatGraph, signature: Signature, data: Dataset) -> Dataset:
    """Return the steps of all samples, each with the first state of the first sample: enough to see what shapes are."""
    if not signature.states:
        return data
    given = {name: np.asarray(data.columns[name][np.array([0])]) for name in signature.states if name in data.columns}
    first = initial_states(graph, signature, given, 1)
    count = int(step_counts(data, signature.states).sum())
    return as_steps(data, {name: np.broadcast_to(state, (count, *state.shape[1:])) for name, state in first.items()})
