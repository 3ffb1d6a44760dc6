"""Builds the cost models of a run: counted from the layer table, timed here, or read from the user's device costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from quant_core.config import RunConfig, SearchConfig
from quant_core.execution.runner import Runner
from quant_core.latency import LATENCY, DeviceCosts, DeviceTimer, device_cost, measured_cost, read_device_costs
from quant_core.model.layers import layers_from_table
from quant_core.model.other_products import other_products
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import DEVICE_LATENCY
from quant_core.pipeline.stages import LATENCY as LATENCY_STAGE
from quant_core.precision import Precision
from quant_core.runtimes.processor import processor_name
from quant_core.runtimes.registry import profile_of
from quant_core.runtimes.storage import storage
from quant_core.search.cost import COUNTED, CostModel, counted_cost

__all__ = ["check_device_costs", "cost_models", "device_costs", "device_timer"]


def cost_models(
    job: QuantizationJob[RunConfig],
    layers: pa.Table,
    calibration: pa.Table,
    precisions: tuple[Precision, ...],
    on: Runner,
) -> Mapping[str, CostModel]:
    """Return cost models of plans made of some precisions, by name.

    They are all that are counted, and latency if it is saved or has a budget.
    """
    listed = layers_from_table(layers)
    others, stored = other_products(layers), storage(job.config.quantization())
    costs = {name: counted_cost(name, listed, precisions, others, stored) for name in COUNTED}
    if job.config.counts_latency:
        costs[LATENCY] = _latency(job, layers, calibration, precisions, on)
    return costs


def _latency(
    job: QuantizationJob[RunConfig],
    layers: pa.Table,
    calibration: pa.Table,
    precisions: tuple[Precision, ...],
    on: Runner,
) -> CostModel:
    """Return what layers take: on the user's device if they say so, or else here."""
    given = device_costs(job, layers, on.machine.cache)
    if given is not None:
        return device_cost(given, layers_from_table(layers), precisions)
    what = {
        "layers": layers,
        "calibration": calibration,
        "data": job.calibration,
        "precisions": [str(precision) for precision in precisions],
        "config": job.config.quantization(),
        "batch_size": job.config.time_batch,
    }
    timer = device_timer(job.config)
    if timer is not None:
        return measured_cost(on.run(DEVICE_LATENCY, step="latency", **what, timer=timer))
    place = profile_of(job.config.runtime).place or processor_name()
    return measured_cost(on.run(LATENCY_STAGE, **what, processor=place))


def device_timer(config: RunConfig) -> DeviceTimer | None:
    """Return the user's own timer; None where times are those of ONNX Runtime here."""
    return None if config.timer is None else DeviceTimer(config.timer, config.timer_limit)


def check_device_costs(job: QuantizationJob[RunConfig], layers: pa.Table, cache: Path) -> None:
    """Raise InputError for device costs that cannot be used, or that lack a row which the run may need."""
    given, config = device_costs(job, layers, cache), job.config
    if given is not None and job.assignment is None:
        lift = config.lift or () if isinstance(config, SearchConfig) else ()
        device_cost(given, layers_from_table(layers), (*config.ladder, *lift))


def device_costs(job: QuantizationJob[RunConfig], layers: pa.Table, cache: Path) -> DeviceCosts | None:
    """Read the user's device costs; None without any. Raises InputError for a file that cannot be used."""
    given = job.config.device_costs
    return None if given is None else read_device_costs(given, layers_from_table(layers), cache)
