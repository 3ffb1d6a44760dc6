"""How data is fed to a model: what the model expects, and batches that fit it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import HALVES, types_kept
from quant_core.model.signature import FIXED, InputRole, OutputRole, Signature
from quant_core.storage.data import Column, Dataset, check_lengths, open_columns
from quant_core.storage.ragged import RaggedColumn
from quant_core.storage.references import Reference

__all__ = [
    "BATCH_BYTES",
    "LARGEST_BATCH",
    "Batch",
    "batches",
    "check_inputs",
    "check_labels",
    "class_axis",
    "fitted",
    "fitting_labels",
    "fixed_inputs",
    "in_row_order",
    "model_data",
]

BATCH_BYTES = 128 << 20
"""What the activations of a batch take at most, unless the user says otherwise."""

LARGEST_BATCH = 32
"""Samples a forward pass takes at once, unless they need too much memory or the user says otherwise."""


@dataclass(frozen=True)
class Batch:
    """Some consecutive samples, ready for the model."""

    feeds: Mapping[str, NDArray[np.generic]]
    """Arrays by input name; the last sample repeated where the model insists on a full batch."""
    rows: NDArray[np.intp]
    """Numbers of the samples in the data, without repetitions."""
    size: int = 0
    """Number of samples that are fed, with repetitions."""
    signature: Signature = field(default_factory=lambda: Signature((), ()))
    """What inputs and outputs are."""

    @property
    def count(self) -> int:
        """Number of samples that are not repetitions."""
        return len(self.rows)


def check_inputs(graph: FloatGraph, data: Dataset) -> None:
    """Raise InputError unless every model input is in the data with the right type and shape."""
    fitted(graph, data)


def model_data(graph: FloatGraph, reference: Reference, cache: Path) -> Dataset:
    """Open referenced data as a model wants them; raises InputError where they do not fit."""
    return fitted(graph, open_columns(reference, cache))


def fitted(
    graph: FloatGraph, data: Dataset, signature: Signature | None = None, without: Sequence[str] = ()
) -> Dataset:
    """The data with the samples of every input along the first axis, and what has one value for all as a constant.

    Raises InputError unless every input but those in `without` is there with the right type and shape. Samples of an
    input whose axis is another in the model may lie along that one, or along the first.
    """
    signature = signature or Signature.of(graph)
    wanted = [role for role in signature.inputs if role.name in graph.inputs and role.name not in without]
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
        else:
            columns[role.name] = _samples(graph, data, role, column, count)
    if not columns:
        raise InputError(f"{data.source}: has one value of each input only, no samples")
    found = Dataset({name: columns[name] for name in data.columns if name in columns} | others, data.labels,
                    data.source, constants)  # fmt: skip
    check_lengths(replace(found, columns=columns))
    return replace(found, columns=columns)


def _check_type(graph: FloatGraph, data: Dataset, name: str) -> None:
    given = data.columns.get(name, data.constants.get(name))
    if given is None:
        listed = ", ".join([*data.columns, *data.constants])
        raise InputError(f"{data.source}: has no array {name!r} for that model input; it has {listed}")
    kind = types_kept(graph).get(name, graph.element_type(name))
    expected = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if given.dtype != expected and not (kind in HALVES and given.dtype == np.float32):
        raise InputError(f"{data.source}: {name} is {given.dtype}, the model wants {expected}")


def _sample_count(graph: FloatGraph, data: Dataset, roles: Sequence[InputRole]) -> int | None:
    """The number of samples, by the labels or the first input whose samples lie along the first axis."""
    if data.labels is not None:
        return len(data.labels)
    given = [role for role in roles if role.name in data.columns]
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
        raise InputError(f"{data.source}: {name} is a single number, the model wants {_spelled(shape, 0)}")


def _samples(graph: FloatGraph, data: Dataset, role: InputRole, column: Column, count: int | None) -> Column:
    """A column with its samples along the first axis."""
    declared, axis = graph.shape(role.name), role.axis or 0
    if isinstance(column, RaggedColumn):
        shapes = [(len(column), *shape) for _, shape in column.runs]
        bad = next((shape for shape in shapes if declared is not None and not _fits(shape, declared, axis)), None)
        if bad is None:
            return column
        raise _misfit(data, role, bad, declared or ())
    if declared is None or axis == 0:
        if declared is None or _fits(column.shape, declared):
            return column
        raise _misfit(data, role, column.shape, declared)
    first = _fits(column.shape, declared, axis) and count in (None, len(column))
    theirs = _matches(_without(column.shape, axis), _without(declared, axis)) and count in (None, column.shape[axis])
    if first and theirs and count is not None and column.shape[0] == column.shape[axis]:
        raise InputError(
            f"{data.source}: {role.name} has shape {list(column.shape)}, where axis 0 and axis {axis} may both be "
            f"the samples: give each an axis of 1 for the batch, {_spelled(_single(declared, axis), 0)}"
        )
    if first:
        return column
    if theirs and len(column.shape) == len(declared):
        return np.moveaxis(column, axis, 0)
    if column.ndim == len(declared) + 1 and column.shape[axis + 1] == 1:
        single = np.squeeze(column, axis + 1)  # an entry has an axis of 1 for the batch
        if _fits(single.shape, declared, axis):
            return single
    raise _misfit(data, role, column.shape, declared)


def _single(declared: Sequence[int | None], axis: int) -> tuple[int | None, ...]:
    return (None, *declared[:axis], 1, *declared[axis + 1 :])


def _without(shape: Sequence[Any], axis: int) -> tuple[Any, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _misfit(data: Dataset, role: InputRole, shape: Sequence[int], declared: Sequence[int | None]) -> InputError:
    axis = role.axis or 0
    wanted = f"{data.source}: {role.name} has shape {list(shape)}, the model wants {_spelled(declared, axis)}"
    if axis == 0:
        whole = not role.said and len(shape) == len(declared) + 1 and 1 in shape[2:]
        way_out = f"; if each entry is a batch of one along another axis, say which: --sample-axis {role.name}=AXIS"
        return InputError(wanted + way_out * whole)
    return InputError(f"{wanted}: samples are along axis {axis}; give them there, or one entry a sample along axis 0")


def _spelled(shape: Sequence[int | None], axis: int) -> str:
    return "[" + ", ".join("N" if at == axis else str(dim or "any") for at, dim in enumerate(shape)) + "]"


def _matches(shape: Sequence[int], declared: Sequence[int | None]) -> bool:
    return len(shape) == len(declared) and all(want in (None, have) for have, want in zip(shape, declared, strict=True))


def _fits(shape: Sequence[int], declared: Sequence[int | None], axis: int = 0) -> bool:
    """Return whether an array with its samples along the first axis fits, where the model has them along `axis`."""
    return len(shape) == len(declared) > 0 and _matches(tuple(shape[1:]), _without(declared, axis))


def check_labels(graph: FloatGraph, data: Dataset, output: str) -> None:
    """Raise InputError unless the data has one integer label for each thing the output classifies."""
    if data.labels is None:
        raise InputError(f"{data.source}: has no array 'labels', which a top-1 target needs")
    if data.labels.dtype.kind not in "iu":
        raise InputError(f"{data.source}: labels are {data.labels.dtype}, they must be integer class numbers")
    declared = graph.shape(output)
    if declared is None:
        return
    role = Signature.of(graph).output(output)
    shape = (None, *_without(declared, role.axis or 0))
    axis = class_axis(role, shape, data.labels)
    if len(shape) < 2 or not _fits(data.labels.shape, _without(shape, axis)):
        wanted = _spelled(_without(shape, min(axis, len(shape) - 1)) or (None,), 0)
        raise InputError(f"{data.source}: labels have shape {list(data.labels.shape)}, output {output} wants {wanted}")
    classes = shape[axis]
    if classes and not 0 <= data.labels.min() <= data.labels.max() < classes:
        raise InputError(
            f"{data.source}: labels run from {data.labels.min()} to {data.labels.max()}, "
            f"output {output} has classes 0 to {classes - 1}"
        )


def class_axis(role: OutputRole, shape: Sequence[int | None], labels: NDArray[np.generic] | None = None) -> int:
    """The axis of classes of an output whose samples are along the first: known, or what labels fit; else 1."""
    if role.classes is not None:
        return role.classes
    fitting = [
        axis
        for axis in range(1, len(shape))
        if labels is not None and _fits(labels.shape, (None, *_without(shape, axis)[1:]))
    ]
    return 1 if not fitting or 1 in fitting else fitting[-1]


def fitting_labels(labels: NDArray[np.generic] | None, shape: Sequence[int], axis: int) -> NDArray[np.generic] | None:
    """The labels, if they are classes of an output of that shape; else None: nothing is counted by them."""
    if (
        labels is None
        or len(shape) < 2
        or labels.dtype.kind not in "iu"
        or labels.shape[1:] != _without(shape, axis)[1:]
    ):
        return None
    return labels


def fixed_batch(graph: FloatGraph) -> int | None:
    """The batch size the model is fixed to, or None."""
    return Signature.of(graph).batch


def default_batch(graph: FloatGraph, memory: int | None = None) -> int:
    """As many samples as keep all activations of a batch within about 128 MiB, 32 at the most.

    Unless half of a thread's `memory` is less than that, it depends on the model and the shapes that calibration saw
    alone: another batch may add up in another order, and results are to be the same on a machine with more memory.
    Larger batches are slower, for their activations leave the processor's cache.
    """
    most = BATCH_BYTES if memory is None else min(BATCH_BYTES, memory // 2)
    elements = Signature.of(graph).elements
    if elements is None:
        shapes = (graph.shape(name) or () for node in graph.nodes for name in node.output if name)
        elements = sum(math.prod(dim or 1 for dim in shape) for shape in shapes)
    return min(max(most // max(4 * elements, 1), 1), LARGEST_BATCH)


def batches(
    graph: FloatGraph,
    data: Dataset,
    size: int | None = None,
    rows: NDArray[np.intp] | None = None,
    memory: int | None = None,
) -> Iterator[Batch]:
    """The samples `rows` (all) in batches of `size` (the default), or of what the model is fixed to.

    A batch holds samples of one shape: where they differ, batches do not come in the order of the rows (see
    `in_row_order`). `memory` is what a thread may fill (see `default_batch`).
    """
    signature = Signature.of(graph)
    fixed = signature.batch
    step, rows = fixed or size or default_batch(graph, memory), np.arange(data.count) if rows is None else rows
    constants, halves = {**fixed_inputs(graph), **data.constants}, types_kept(graph)
    for group in data.in_groups(rows):
        for first in range(0, len(group), step):
            part = group[first : first + step]
            feeds = _feeds(graph, signature, data, part, fixed, constants)
            feeds |= {name: _as_given(feeds[name], halves[name]) for name in feeds.keys() & halves.keys()}
            yield Batch(feeds, part, fixed or len(part), signature)


def _as_given(array: NDArray[np.generic], kind: int) -> NDArray[np.float32]:
    """Values as an application feeds them to a model of a narrower type, in float32."""
    with np.errstate(over="ignore"):  # beyond the largest float16
        return array.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)


def _feeds(
    graph: FloatGraph,
    signature: Signature,
    data: Dataset,
    rows: NDArray[np.intp],
    fixed: int | None,
    constants: Mapping[str, NDArray[np.generic]],
) -> dict[str, NDArray[np.generic]]:
    """What a batch feeds: samples along the axis that the model has them on, the last one repeated to fill it."""
    found, missing = data.batch(rows), (fixed or 0) - len(rows)
    feeds = {}
    for name in graph.inputs:
        if name not in found:
            feeds[name] = constants[name]
            continue
        array, axis = found[name], signature.input(name).axis or 0
        if missing > 0:
            array = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
        feeds[name] = np.ascontiguousarray(np.moveaxis(array, 0, axis)) if axis else array
    return {**feeds, **fixed_inputs(graph)}


def fixed_inputs(graph: FloatGraph) -> dict[str, NDArray[np.generic]]:
    """The inputs of the user's model that are fixed for good in the prepared one, and their values."""
    kept = next((entry.value for entry in graph.model.metadata_props if entry.key == FIXED), "{}")
    return {name: np.asarray(value, dtype) for name, (value, dtype) in json.loads(kept).items()}


def in_row_order(rows: Sequence[NDArray[np.intp]]) -> NDArray[np.intp] | None:
    """Return how to bring what batches of these rows gave into the order of rows; None where it is."""
    order = np.argsort(np.concatenate(rows), kind="stable") if rows else np.arange(0)
    return None if (order == np.arange(len(order))).all() else order
