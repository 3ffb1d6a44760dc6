"""The outputs of the float model: what every score is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.calibration.float_pass import KeptOutputs, ObservedModel
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.data.batches import Batch
from quant_core.model.data.fitted_data import model_data
from quant_core.model.data.sample_outputs import ForwardPasses, Outputs, sample_outputs
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import types_kept
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import Session, fast_numerics, open_file, open_nodes
from quant_core.scoring.collected import collected
from quant_core.scoring.compared import compared_outputs
from quant_core.scoring.user_function import user_metric
from quant_core.storage.data import Column
from quant_core.storage.mapped import let_go
from quant_core.storage.ragged import RaggedColumn
from quant_core.storage.references import Reference, fetch
from quant_core.storage.tables import facts, with_facts

__all__ = ["float_outputs", "reference_arrays"]


def float_outputs(
    model: Reference,
    layers: pa.Table,
    data: Reference,
    output: int | str,
    function: str | None,
    batch_size: int | None,
    machine: Machine,
    as_calibrated: bool = False,
) -> pa.Table:
    """Return the float model's compared outputs, one row a sample, one column an output (flattened).

    The facts hold each output's shape, and the user's metric of them if there is one.

    Args:
        model: the float model's own file.
        layers: layer table of the prepared model (schema LAYERS).
        data: the samples.
        output: the compared outputs: index, name or `all`.
        function: a user's metric as `pkg.mod:fn`, or None.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads and cache.
        as_calibrated: whether the model was calibrated on these very data and its outputs were kept: they are taken
            where the model's own file gives the same (but for the last bits) on the first batch.

    Raises InputError for an output that holds a NaN, or no value at all.

    """
    graph = prepared_graph(layers, machine.cache)
    dataset = model_data(graph, data, machine.cache)
    passes = ForwardPasses.over_all(graph, dataset, batch_size, machine)
    names, session = compared_outputs(graph, output), _opened(model, graph, machine)
    whole = _kept_outputs(session, layers, data, names, passes) if as_calibrated else None
    if whole is None:
        whole = _all_outputs(session, names, passes)
    for name, array in whole.items():
        _refuse_incomparable(name, array, dataset.source)
    columns = {name: _listed(array) for name, array in whole.items()}
    shapes = {name: _shape_of(array)[1:] for name, array in whole.items()}
    metric = user_metric(function, whole, dataset.labels)
    return with_facts(pa.table(columns), shapes=shapes, metric=metric)


def _all_outputs(session: Session, names: Sequence[str], passes: ForwardPasses) -> dict[str, Column]:
    """Return the outputs of all samples."""
    return collected(passes.outputs(session, names, "baseline", _outputs_alone), names, passes.machine.cache)


def _opened(model: Reference, graph: FloatGraph, machine: Machine) -> Session:
    """Open the float model from its own file, where that can be."""
    if types_kept(graph) or graph.inside:
        # A model in float16 is compared in float32, as it is calibrated; the file does not give tensors inside.
        return open_nodes(graph, graph.nodes, graph.compared, {}, fast_numerics(graph))
    return open_file(fetch(model, machine.cache), fast_numerics(graph))


_LAST_BITS = 1e-3
"""By what share of their size (both root mean square) outputs may differ that were added up in another order."""


def _kept_outputs(
    session: Session, layers: pa.Table, data: Reference, names: Sequence[str], passes: ForwardPasses
) -> Mapping[str, Column] | None:
    """Return the outputs that calibration kept; None where the session, of the model's own file, gives others.

    The first batch is what they are compared on.
    """
    kept = KeptOutputs(layers, data, names, passes.batch_size, passes.machine.cache)
    found: Mapping[str, Column] | None = kept.read()
    if found is None:
        found = _all_outputs(ObservedModel.opened(passes.graph, layers, names).session, names, passes)
    batch = next(passes.batches())
    own = sample_outputs(session, batch, names)
    return found if all(_agree(own[name], found[name][batch.rows]) for name in names) else None


def _agree(own: NDArray[np.generic], kept: NDArray[np.generic]) -> bool:
    if own.shape != kept.shape or own.dtype.kind not in "fiub":
        return False
    own, kept = (np.asarray(array, np.float64) for array in (own, kept))
    return bool(np.sum((own - kept) ** 2) <= _LAST_BITS**2 * np.sum(own**2))


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
