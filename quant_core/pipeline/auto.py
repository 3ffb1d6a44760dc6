"""The main job: from a float model, data and a target to the narrowest model that meets it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa

from quant_core.config import MixedPrecisionConfig
from quant_core.errors import TargetError
from quant_core.execution.machine import Machine, available_cores
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Stages
from quant_core.model.layers import Layer, layers_from_table
from quant_core.pipeline.output import Findings, Outcome, write_output
from quant_core.pipeline.plan_search import narrowable, search_curve, search_plans
from quant_core.pipeline.steps import begun, calibrated, held_out, prepared_layers, request_of, timed_models
from quant_core.pipeline.study import Request, Shipped, Trial, Trials
from quant_core.precision import PrecisionPlan
from quant_core.probing.probe import layer_sensitivity, probe_samples, probe_shards
from quant_core.probing.racing import gathered, sample_rounds, unsettled
from quant_core.probing.ranking import rank
from quant_core.storage.data import DataSource, open_dataset

__all__ = ["Request", "auto_mixed_precision", "run"]


def auto_mixed_precision(
    model: str | os.PathLike[str],
    *,
    calibration: DataSource,
    evaluation: DataSource,
    holdout: DataSource | None = None,
    config: MixedPrecisionConfig,
    output: str | os.PathLike[str],
    workers: int | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Outcome:
    """Quantize a model in this process, without Prefect; nothing is kept for the next run but the output.

    `calibration`, `evaluation` and `holdout` are paths or URLs, arrays by input name (and `labels`), or objects
    with ONNX Runtime's CalibrationDataReader interface. `workers` threads compute at once (default: all cores).
    `cache` is a folder for intermediate files (default: a temporary one). `output` may be a URL too: the result's
    folder is then a copy of it.

    Raises InputError for unusable input and TargetError when even the wide model misses the target, or no plan is
    within the budget, or the best one there misses the target; the best model found is then in the output folder
    nevertheless.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(cache or temporary)
        request = request_of(model, calibration, evaluation, holdout, config, output, folder)
        return run(request, Stages(Machine(folder, workers or available_cores())))


def run(request: Request, stages: Stages) -> Outcome:
    """Call every stage of the pipeline through `stages` and write the output folder."""
    config = request.config
    layers = prepared_layers(request, stages)
    candidates = narrowable(config, [layer.name for layer in layers_from_table(layers)])
    calibration = calibrated(request, stages, layers)
    # A plan of the frontier is given out as it was scored; which plan is the best shows on the same samples only.
    samples = "all" if config.frontier or config.budget else config.samples
    trials = begun(request, stages, layers, calibration, (config.wide, *config.narrow), samples)
    names = [layer.name for layer in layers_from_table(layers)]
    wide = trials.evaluate(PrecisionPlan.uniform(names, config.wide), "baseline")
    undecided = bool(candidates) and _is_undecided(trials, wide, candidates)
    probed = undecided or (config.frontier and candidates)
    ranking = rank(layers, _probes(trials, candidates) if probed else [], config.wide)
    if undecided:
        search_plans(trials, ranking)
    if config.frontier:
        search_curve(trials, ranking)
    shipped = _shipped(trials)
    outcome = write_output(Findings(trials, ranking, shipped, held_out(trials, shipped), timed_models(trials, shipped)))
    if not outcome.met:
        raise TargetError(trials.shortfall(), outcome)
    return outcome


def _probes(trials: Trials, candidates: Sequence[str]) -> list[pa.Table]:
    """Losses of every candidate at every narrow precision, round by round of the race for samples."""
    request, stages, listed = trials.request, trials.stages, layers_from_table(trials.layers)
    count = open_dataset(request.evaluation, stages.machine.cache).count
    racing = [(name, str(precision)) for precision in request.config.narrow for name in candidates]
    tables: list[pa.Table] = []
    start = 0
    for stop in sample_rounds(count, request.config.samples):
        racing = unsettled(gathered(tables)) if tables else racing
        if not racing:
            break
        watcher().expects("probe", len(racing) * (stop - start))
        tables += stages.fan_out(
            "probe",
            layer_sensitivity,
            _shards(listed, racing, start, stop),
            layers=trials.layers,
            calibration=trials.calibration,
            weights=trials.weights,
            data=request.evaluation,
            loss=request.config.rank,
            output=request.config.output,
            config=request.config.quantization(),
            batch_size=request.config.batch_size,
            baseline=trials.baseline if request.config.rank == "l2-float" else None,
        )
        start = stop
    return tables


def _shards(layers: Sequence[Layer], racing: Sequence[tuple[str, str]], start: int, stop: int) -> list[dict[str, Any]]:
    """The racing probes in shards of one precision each, so that another candidate precision disturbs none.

    A probe's samples are in ascending order over its shards.
    """
    by_precision: dict[str, set[str]] = {}
    for name, precision in racing:
        by_precision.setdefault(precision, set()).add(name)
    found = []
    for precision, names in by_precision.items():
        shards = probe_shards([layer for layer in layers if layer.name in names])
        # All samples of a shard, then the next: tasks that follow each other share its sessions.
        for shard, (first, last) in product(shards, probe_samples(start, stop, len(shards))):
            found.append({"shard": shard, "precision": precision, "start": first, "stop": last})
    return found


def _is_undecided(trials: Trials, wide: Trial, candidates: Sequence[str]) -> bool:
    """Whether a search has something to find out."""
    if trials.budget is None:
        return wide.met and not _everything_meets(trials, wide.plan, candidates)
    cheapest = _cheapest(trials, wide.plan, candidates)
    if trials.affordable(wide.plan):
        watcher().noted("the wide model is within the budget: no layer needs to be narrowed")
    elif not trials.affordable(cheapest):
        trials.evaluate(cheapest, "search")
    return not trials.affordable(wide.plan) and trials.affordable(cheapest)


def _everything_meets(trials: Trials, wide: PrecisionPlan, candidates: Sequence[str]) -> bool:
    """Whether all candidates may go down the whole ladder at once: then nothing needs to be probed.

    The documented rule goes step by step and never looks ahead; and not all layers may, where only so many may.
    """
    narrow = trials.request.config.narrow
    if trials.request.config.search == "linear" or trials.request.config.most_layers is not None:
        return False
    for rung, precision in enumerate(narrow, start=1):
        if not trials.evaluate(wide.narrowed(dict.fromkeys(candidates, precision)), "search").met:
            return False
        further = f"on to {narrow[rung]}" if rung < len(narrow) else "there is no narrower one to choose"
        watcher().noted(f"all layers at {precision} meet the target at once; {further}")
    return _cheapest_meets(trials, wide, candidates)


def _cheapest_meets(trials: Trials, wide: PrecisionPlan, candidates: Sequence[str]) -> bool:
    """Whether the plan that costs least may be: not every layer need be cheapest at the narrowest precision."""
    cheapest = _cheapest(trials, wide, candidates)
    return any(trial.plan == cheapest for trial in trials.done) or trials.evaluate(cheapest, "search").met


def _cheapest(trials: Trials, wide: PrecisionPlan, candidates: Sequence[str]) -> PrecisionPlan:
    ladder = (trials.request.config.wide, *trials.request.config.narrow)
    return wide.narrowed(
        {name: min(reversed(ladder), key=lambda one: trials.cost.prices[name, one]) for name in candidates}
    )


def _shipped(trials: Trials) -> Shipped:
    """Write the best plan, measure the file, and step back to the next one while it misses what the plan met."""
    shipped = None
    for trial in trials.best_first():
        shipped = trials.ship(trial.plan, trial.alpha)
        if shipped.met or not trial.met:
            return shipped
    return shipped or trials.ship(trials.done[0].plan, trials.done[0].alpha)
