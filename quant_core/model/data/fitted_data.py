"""Data as a model wants them: each input's type and shape checked, its samples along the first axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.data.sequences import check_steps
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import HALVES, types_kept
from quant_core.model.signature import InputRole, Signature
from quant_core.model.states import likely_states
from quant_core.storage.data import Column, Dataset, check_lengths, open_columns
from quant_core.storage.ragged import RaggedColumn
from quant_core.storage.references import Reference

__all__ = ["fits", "fitted", "model_data", "spelled", "without_axis"]


def model_data(graph: FloatGraph, reference: Reference, cache: Path) -> Dataset:
    """Open referenced data as a model wants them; raises InputError where they do not fit."""
    return fitted(graph, open_columns(reference, cache))


def fitted(
    graph: FloatGraph, data: Dataset, signature: Signature | None = None, without: Sequence[str] = ()
) -> Dataset:
    """The data with the samples of every input along the first axis, and what has one value for all as a constant.

    Raises InputError unless every input but those in `without` is there with the right type and shape. Samples of an
    input whose axis is another in the model may lie along that one, or along the first. Where the model has states, the
    samples of other inputs are sequences, [samples, steps, ...], and the data may hold the first states.
    """
    signature = signature or Signature.of(graph)
    given = {*data.columns, *data.constants}
    wanted = [
        role
        for role in signature.inputs
        if role.name in graph.inputs and role.name not in without and (role.state is None or role.name in given)
    ]
    for role in wanted:
        _check_type(graph, data, role.name)
    count = _sample_count(graph, data, wanted)
    columns: dict[str, Column] = {}
    constants = dict(data.constants)
    others = {name: column for name, column in data.columns.items() if name not in {role.name for role in wanted}}
    for role in wanted:
        column = data.columns.get(role.name)
        if column is None:
            _check_constant(graph, data, role.name, constants[role.name])
        elif role.axis is None or _is_constant(graph, role, column, count, wanted):
            constants[role.name] = _constant(graph, data, role, column)
        elif signature.states and role.state is None:
            columns[role.name] = _sequences(graph, data, role, column)
        else:
            columns[role.name] = _samples(graph, data, role, column, count)
    if not columns.keys() - signature.states.keys():
        raise InputError(f"{data.source}: has one value of each input only, no samples")
    found = Dataset({name: columns[name] for name in data.columns if name in columns} | others, data.labels,
                    data.source, constants)  # fmt: skip
    check_lengths(replace(found, columns=columns))
    if signature.states:
        check_steps(replace(found, columns=columns), signature.states)
    return replace(found, columns=columns)


def _check_type(graph: FloatGraph, data: Dataset, name: str) -> None:
    given = data.columns.get(name, data.constants.get(name))
    if given is None:
        listed = ", ".join([*data.columns, *data.constants])
        state = likely_states(graph).get(name)
        way_out = (
            f"; if it is a state that {state} gives for the next step, add --state {name}={state}" if state else ""
        )
        raise InputError(f"{data.source}: has no array {name!r} for that model input; it has {listed}{way_out}")
    kind = types_kept(graph).get(name, graph.element_type(name))
    expected = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if given.dtype != expected and not (kind in HALVES and given.dtype == np.float32):
        raise InputError(f"{data.source}: {name} is {given.dtype}, the model wants {expected}")


def _sample_count(graph: FloatGraph, data: Dataset, roles: Sequence[InputRole]) -> int | None:
    """The number of samples, by the labels or the first input whose samples lie along the first axis."""
    if data.labels is not None:
        return len(data.labels)
    given = [role for role in roles if role.name in data.columns]
    sequences = [role for role in given if role.state is None]
    if len(sequences) < len(given):
        return len(data.columns[sequences[0].name]) if sequences else None
    known = [role for role in given if role.axis == 0 and role.said] or [role for role in given if role.axis == 0]
    return len(data.columns[known[0].name]) if known else None


def _is_constant(
    graph: FloatGraph, role: InputRole, column: Column, count: int | None, roles: Sequence[InputRole]
) -> bool:
    """Return whether an array is the one value of an input that says nothing of samples, beside others that do."""
    if (
        role.said
        or isinstance(column, RaggedColumn)
        or not any(other.said and other.axis is not None for other in roles)
    ):
        return False
    return column.shape == graph.shape(role.name) and len(column) != count


def _constant(graph: FloatGraph, data: Dataset, role: InputRole, column: Column) -> NDArray[np.generic]:
    """The one value of an input, which may be given once for each sample."""
    declared = graph.shape(role.name)
    if not isinstance(column, RaggedColumn):
        if declared is None or _matches(column.shape, declared):
            return np.asarray(column)
        if _matches(column.shape[1:], declared) and (np.asarray(column) == np.asarray(column[:1])).all():
            return np.asarray(column[0])
    raise InputError(
        f"{data.source}: {role.name} has different values for samples, and the model wants one of shape "
        f"{list(declared or ())} for all: give one, or fix it with --set {role.name}=VALUE"
    )


def _check_constant(graph: FloatGraph, data: Dataset, name: str, value: NDArray[np.generic]) -> None:
    shape = graph.shape(name)
    if shape is not None and not _matches(value.shape, shape):
        raise InputError(f"{data.source}: {name} is a single number, the model wants {spelled(shape, 0)}")


def _samples(graph: FloatGraph, data: Dataset, role: InputRole, column: Column, count: int | None) -> Column:
    """A column with its samples along the first axis."""
    declared, axis = graph.shape(role.name), role.axis or 0
    if isinstance(column, RaggedColumn):
        shapes = [(len(column), *shape) for _, shape in column.runs]
        bad = next((shape for shape in shapes if declared is not None and not fits(shape, declared, axis)), None)
        if bad is None:
            return column
        raise _misfit(data, role, bad, declared or ())
    if declared is None or axis == 0:
        if declared is None or fits(column.shape, declared):
            return column
        raise _misfit(data, role, column.shape, declared)
    first = fits(column.shape, declared, axis) and count in (None, len(column))
    theirs = _matches(without_axis(column.shape, axis), without_axis(declared, axis)) and count in (
        None,
        column.shape[axis],
    )
    if first and theirs and count is not None and column.shape[0] == column.shape[axis]:
        raise InputError(
            f"{data.source}: {role.name} has shape {list(column.shape)}, where axis 0 and axis {axis} may both be "
            f"the samples: give each an axis of 1 for the batch, {spelled(_single(declared, axis), 0)}"
        )
    if first:
        return column
    if theirs and len(column.shape) == len(declared):
        return np.moveaxis(column, axis, 0)
    if column.ndim == len(declared) + 1 and column.shape[axis + 1] == 1:
        single = np.squeeze(column, axis + 1)  # an entry has an axis of 1 for the batch
        if fits(single.shape, declared, axis):
            return single
    raise _misfit(data, role, column.shape, declared)


def _sequences(graph: FloatGraph, data: Dataset, role: InputRole, column: Column) -> Column:
    """Return a column of sequences; raises InputError for samples that have no axis of steps."""
    declared, axis = graph.shape(role.name), role.axis or 0
    shapes = [shape for _, shape in column.runs] if isinstance(column, RaggedColumn) else [column.shape[1:]]
    wanted = None if declared is None else without_axis(declared, axis)
    bad = next(
        (shape for shape in shapes if not shape or (wanted is not None and not _matches(shape[1:], wanted))), None
    )
    if bad is None:
        return column
    inside = "".join(f", {size or 'any'}" for size in wanted or ())
    raise InputError(
        f"{data.source}: {role.name} has shape {[len(column), *bad]}; as the model has states, a sample is a sequence "
        f"of steps: [N, steps{inside}]"
    )


def _single(declared: Sequence[int | None], axis: int) -> tuple[int | None, ...]:
    return (None, *declared[:axis], 1, *declared[axis + 1 :])


def without_axis(shape: Sequence[Any], axis: int) -> tuple[Any, ...]:
    """Return a shape without one axis."""
    return (*shape[:axis], *shape[axis + 1 :])


def _misfit(data: Dataset, role: InputRole, shape: Sequence[int], declared: Sequence[int | None]) -> InputError:
    axis = role.axis or 0
    wanted = f"{data.source}: {role.name} has shape {list(shape)}, the model wants {spelled(declared, axis)}"
    if tuple(shape[1:]) == tuple(declared):
        return InputError(
            f"{data.source}: each entry of {role.name} is a whole input of shape {list(declared)}: give samples along "
            "its first axis or, if that is none of samples, export the model with one in front of inputs and outputs: "
            f"{spelled((None, *declared), 0)}"
        )
    if axis == 0:
        whole = not role.said and len(shape) == len(declared) + 1 and 1 in shape[2:]
        way_out = f"; if each entry is a batch of one along another axis, name it: --sample-axis {role.name}=AXIS"
        return InputError(wanted + way_out * whole)
    return InputError(f"{wanted}: samples are along axis {axis}; give them there, or one entry a sample along axis 0")


def spelled(shape: Sequence[int | None], axis: int) -> str:
    """Return a shape in words, with an axis of samples."""
    return "[" + ", ".join("N" if at == axis else str(dim or "any") for at, dim in enumerate(shape)) + "]"


def _matches(shape: Sequence[int], declared: Sequence[int | None]) -> bool:
    return len(shape) == len(declared) and all(want in (None, have) for have, want in zip(shape, declared, strict=True))


def fits(shape: Sequence[int], declared: Sequence[int | None], axis: int = 0) -> bool:
    """Return whether an array with its samples along the first axis fits, where the model has them along `axis`."""
    return len(shape) == len(declared) > 0 and _matches(tuple(shape[1:]), without_axis(declared, axis))
