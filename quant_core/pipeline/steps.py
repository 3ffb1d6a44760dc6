"""What every run begins and ends with, whatever it is that chooses the plan in between."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pyarrow as pa

from quant_core.calibration.collect import calibrate
from quant_core.config import Config, RunConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Stages
from quant_core.latency import (
    LATENCY,
    DeviceCosts,
    device_cost,
    layer_times,
    measured_cost,
    model_times,
    processor_name,
    read_device_costs,
)
from quant_core.model.inputs import BATCH_BYTES
from quant_core.model.layers import layers_from_table
from quant_core.model.model_file import refer_model
from quant_core.model.prepare import is_prepared, prepare, prepared_graph
from quant_core.pipeline.output import HeldOut
from quant_core.pipeline.preflight import check_data, check_request
from quant_core.pipeline.study import Request, Shipped, Trials
from quant_core.precision import Precision
from quant_core.quantization.weight_rounding import rounded_weights
from quant_core.results.output_place import OutputPlace
from quant_core.scoring.evaluation import float_outputs
from quant_core.search.cost import COUNTED, CostModel, counted_cost
from quant_core.storage.data import DataSource, refer_data
from quant_core.storage.references import Reference
from quant_core.storage.tables import facts

__all__ = ["begun", "calibrated", "held_out", "prepared_layers", "request_of", "timed_models"]


def request_of(
    model: str | os.PathLike[str],
    calibration: DataSource,
    evaluation: DataSource,
    holdout: DataSource | None,
    config: Config,
    output: str | os.PathLike[str],
    cache: Path,
) -> Request[Config]:
    """What a Python caller asks for, by reference; data that are only in memory are written to the cache."""
    first = refer_data(calibration, cache)
    return Request(
        model=refer_model(model),
        calibration=first,
        # A reader hands out its batches once.
        evaluation=first if evaluation is calibration else refer_data(evaluation, cache),
        holdout=None if holdout is None else refer_data(holdout, cache),
        config=config,
        output=OutputPlace.at(output),
    )


def prepared_layers(request: Request[RunConfig], stages: Stages) -> pa.Table:
    """The layer table, once all input has been looked at: unusable data is refused before any work on it."""
    cache = stages.machine.cache
    check_request(request, cache)
    if request.config.batch_size is None and stages.machine.memory < 2 * BATCH_BYTES:
        watcher().warned(
            f"there are {stages.machine.memory >> 20} MiB for each of {stages.machine.workers} workers: batches may be "
            "smaller than elsewhere, and the last bit of a number another"
        )
    layers = stages.run(
        "prepare",
        prepare,
        valid=lambda table: is_prepared(table, cache),
        model=request.model,
        **request.config.preparation(),
    )
    # Once more: the prepared model knows the shapes that the file leaves open.
    check_data(prepared_graph(facts(layers)["prepared"], cache), request, cache)
    _device_costs(request, layers, cache)
    return layers


def calibrated(request: Request[RunConfig], stages: Stages, layers: pa.Table) -> pa.Table:
    """Histograms of the prepared model's tensors."""
    return stages.run(
        "calibrate",
        calibrate,
        layers=layers,
        data=request.calibration,
        batch_size=request.config.batch_size,
        providers=request.config.providers,
    )


def begun(
    request: Request[Config],
    stages: Stages,
    layers: pa.Table,
    calibration: pa.Table,
    precisions: Iterable[Precision],
    samples: Literal["auto", "all"] | int = "all",
) -> Trials[Config]:
    """Trials with nothing tried yet, of plans made of some precisions, once the float model has been run."""
    listed, ladder = layers_from_table(layers), tuple(dict.fromkeys(precisions))
    weights = _rounded(request, stages, layers, ladder)
    baseline = _float_outputs(request, stages, layers, request.evaluation)
    costs = {name: counted_cost(name, listed, ladder) for name in COUNTED}
    if request.config.cost == LATENCY:
        costs[LATENCY] = _latency(request, stages, layers, calibration, ladder)
    return Trials(request, stages, layers, calibration, weights, baseline, costs, samples)


def _latency(
    request: Request[RunConfig],
    stages: Stages,
    layers: pa.Table,
    calibration: pa.Table,
    precisions: tuple[Precision, ...],
) -> CostModel:
    """What layers take: on the user's device if they say so, or else here."""
    given = _device_costs(request, layers, stages.machine.cache)
    if given is not None:
        return device_cost(given, layers_from_table(layers), precisions)
    times = stages.run(
        "latency",
        layer_times,
        layers=layers,
        calibration=calibration,
        data=request.calibration,
        precisions=[str(precision) for precision in precisions],
        config=request.config.quantization(),
        processor=processor_name(),
    )
    return measured_cost(times)


def _device_costs(request: Request[RunConfig], layers: pa.Table, cache: Path) -> DeviceCosts | None:
    given = request.config.device_costs
    return None if given is None else read_device_costs(given, layers_from_table(layers), cache)


def timed_models(trials: Trials[RunConfig], shipped: Shipped) -> pa.Table | None:
    """How long the float, the wide and the shipped model take, where that is asked for."""
    request = trials.request
    if not request.config.times_models:
        return None
    wide = trials.exported(trials.done[0].plan)
    return trials.stages.run(
        "timing",
        model_times,
        layers=trials.layers,
        models={"float": request.model, "wide": wide, "mixed": shipped.file},
        data=request.calibration,
        processor=processor_name(),
    )


def _rounded(
    request: Request[RunConfig], stages: Stages, layers: pa.Table, precisions: Iterable[Precision]
) -> list[pa.Table]:
    """Weights that are chosen with the calibration data in view, one table a type."""
    config = request.config
    return [
        stages.run(
            "round",
            rounded_weights,
            layers=layers,
            data=request.calibration,
            weights=kind.code,
            config=config.quantization(),
            batch_size=config.batch_size,
        )
        for kind in dict.fromkeys(precision.weights for precision in precisions)
        if config.chooses_weights(kind)
    ]


def held_out(trials: Trials[RunConfig], shipped: Shipped) -> HeldOut | None:
    """How the shipped file does on held-out data, where there are any."""
    data = trials.request.holdout
    if data is None:
        return None
    baseline = _float_outputs(trials.request, trials.stages, trials.layers, data)
    return HeldOut(baseline, trials.verify(shipped.file, baseline, data))


def _float_outputs(request: Request[RunConfig], stages: Stages, layers: pa.Table, data: Reference) -> pa.Table:
    return stages.run(
        "baseline",
        float_outputs,
        model=request.model,
        layers=layers,
        data=data,
        output=request.config.output,
        function=request.config.target.function,
        batch_size=request.config.batch_size,
    )
