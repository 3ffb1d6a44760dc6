"""Stage: times whole models with the user's own function, and shares out what they take among their layers.

A board runs files, so that layers are not timed one by one. A layer is taken for a share of the model in proportion to
its multiply-accumulates and the values it reads; the random mixes then say what each layer and boundary takes in fact
(see `boundaries`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from quant_core.config.quantization import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.execution.progress import watcher
from quant_core.latency.device_timer import DeviceTimer
from quant_core.latency.timed_model import TimedModel
from quant_core.model.data.batches import Batch
from quant_core.model.layers import Layer
from quant_core.precision import PrecisionPlan
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.storage.references import Reference, fetch

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
    """Return the milliseconds of uniform plans, by layer, and of random mixes, for one sample (schema TIMES).

    Args:
        layers: layer table of the prepared model (schema LAYERS).
        calibration: its histograms (schema CALIBRATION).
        data: samples, of which the first batch is run.
        precisions: those that are timed, all layers at one.
        config: how layers are quantized.
        timer: the user's function.
        machine: cache.
        batch_size: samples that are run at once, where the model leaves that open.

    Raises InputError where the timer raises, or returns what is no time.

    """
    recipe = QuantizationRecipe(layers, calibration, config)
    model = TimedModel.of(recipe, data, precisions, batch_size, machine)
    watcher().expects("latency", len(model.uniform) + len(model.mixes))
    rows: list[dict[str, object]] = []
    for precision, plan in model.uniform.items():
        rows += _rows(model.layers, precision, _timed(timer, _written(recipe, plan, machine), model.batch))
    for plan in model.mixes:
        taken = _timed(timer, _written(recipe, plan, machine), model.batch)
        rows.append({"mix": json.dumps(plan.as_dict()), **taken})
    return model.table(rows)


def _written(recipe: QuantizationRecipe, plan: PrecisionPlan, machine: Machine) -> Path:
    return fetch(exported_reference(export(recipe, plan.as_dict(), machine), machine.cache), machine.cache)


def _timed(timer: DeviceTimer, file: Path, batch: Batch) -> dict[str, float | int]:
    taken = timer.milliseconds(file, batch.feeds) / batch.size
    watcher().advanced("latency", 1)
    return {"milliseconds": taken, "median": taken, "turns": 1}


def _rows(layers: Sequence[Layer], precision: str, whole: Mapping[str, float | int]) -> Iterator[dict[str, object]]:
    """The row of a model, and those of its layers by their share of the work."""
    yield {"precision": precision, **whole}
    work = [layer.macs + _ELEMENT * layer.activation_elements for layer in layers]
    for layer, share in zip(layers, work, strict=True):
        taken = whole["milliseconds"] * share / (sum(work) or 1)
        yield {"layer": layer.name, "precision": precision, "milliseconds": taken, "median": taken, "turns": 1}
