"""Stage: times whole models with the user's own function, and shares out what they take among their layers.

A board runs files, so that layers are not timed one by one. A layer is taken for a share of the model in proportion to
its multiply-accumulates and the values it reads; the random mixes then say what each layer and boundary takes in fact
(see `boundaries`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.quantization import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.execution.progress import watcher
from quant_core.latency.device_timer import DeviceTimer
from quant_core.latency.mixes import mixes
from quant_core.latency.neighbours import neighbours_of
from quant_core.model.data.batches import batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.layers import Layer, layers_from_table
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.storage.references import Reference, fetch
from quant_core.storage.schemas import TIMES
from quant_core.storage.tables import with_facts

__all__ = ["device_times"]

_ELEMENT = 8
"""Multiply-accumulates that take about as long as it takes to read a value."""


def device_times(
    layers: pa.Table,
    calibration: pa.Table,
    data: Reference,
    precisions: Sequence[str],
    config: QuantizationConfig,
    timer: DeviceTimer,
    machine: Machine,
    batch_size: int = 1,
) -> pa.Table:
    """Milliseconds of models with all layers at each precision and of random mixes, for one sample (schema TIMES).

    `batch_size` samples are run at once, where the model leaves that open.

    Raises InputError where the timer raises, or returns what is no time.
    """
    recipe = QuantizationRecipe(layers, calibration, config)
    quantizer, listed = quantizer_of(recipe, machine), layers_from_table(layers)
    batch = next(batches(quantizer.graph, step_data(quantizer.graph, data, machine.cache), batch_size))
    names = [layer.name for layer in listed]
    chosen = mixes(names, [Precision.parse(precision) for precision in precisions])
    watcher().expects("latency", len(precisions) + len(chosen))
    rows: list[dict[str, object]] = []
    for precision in precisions:
        file = _written(recipe, PrecisionPlan.uniform(names, Precision.parse(precision)), machine)
        whole = _timed(timer, file, batch.feeds, batch.size)
        rows += _rows(listed, precision, whole)
    for plan in chosen:
        taken = _timed(timer, _written(recipe, plan, machine), batch.feeds, batch.size)
        rows.append({"mix": json.dumps(plan.as_dict()), **taken})
    pairs = [[one.first, one.second, one.relation, one.elements] for one in neighbours_of(quantizer.topology, listed)]
    return with_facts(pa.Table.from_pylist(rows, schema=TIMES), neighbours=pairs)


def _written(recipe: QuantizationRecipe, plan: PrecisionPlan, machine: Machine) -> Path:
    return fetch(exported_reference(export(recipe, plan.as_dict(), machine), machine.cache), machine.cache)


def _timed(
    timer: DeviceTimer, file: Path, feeds: Mapping[str, NDArray[np.generic]], samples: int
) -> dict[str, float | int]:
    taken = timer.milliseconds(file, feeds) / samples
    watcher().advanced("latency", 1)
    return {"milliseconds": taken, "median": taken, "turns": 1}


def _rows(layers: Sequence[Layer], precision: str, whole: Mapping[str, float | int]) -> Iterator[dict[str, object]]:
    """The row of a model, and those of its layers by their share of the work."""
    yield {"precision": precision, **whole}
    work = [layer.macs + _ELEMENT * layer.activation_elements for layer in layers]
    for layer, share in zip(layers, work, strict=True):
        taken = whole["milliseconds"] * share / (sum(work) or 1)
        yield {"layer": layer.name, "precision": precision, "milliseconds": taken, "median": taken, "turns": 1}
