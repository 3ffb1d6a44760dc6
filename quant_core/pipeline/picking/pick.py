"""Chooses a plan of a finished run's frontier, and writes its model without searching again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from quant_core.budget import BUDGETS
from quant_core.config import MixedPrecisionConfig, config_from
from quant_core.config.criterion import OWN_METRICS
from quant_core.config.evaluator import EvaluatorConfig
from quant_core.errors import InputError, TargetError
from quant_core.execution.machine import Machine
from quant_core.execution.progress import watcher
from quant_core.model.model_file import refer_model
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import is_prepared
from quant_core.pipeline.finished_run.deployment import deployed_record
from quant_core.pipeline.finished_run.plan_summary import calibration_with_types
from quant_core.pipeline.picking.frontier import one_plan
from quant_core.pipeline.picking.frontier_choice import frontier_of, picked_plan, wide_costs
from quant_core.pipeline.picking.picked_manifest import as_deployed, chosen_among, picked_manifest
from quant_core.pipeline.picking.picked_score import PickedScore, picked_score
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.results.outcome import Outcome
from quant_core.results.output_folder import output_file, write_folder
from quant_core.results.output_place import OutputPlace
from quant_core.storage.frontier_rows import Row, plan_of_row
from quant_core.storage.references import Reference, fetch
from quant_core.storage.tables import facts

__all__ = ["pick"]


def pick(
    run: Outcome,
    metric: str | None,
    limit: float | None,
    output: str | os.PathLike[str],
    machine: Machine,
    budget: Mapping[str, object] | None = None,
    plan: str | None = None,
) -> Outcome:
    """Write the result folder of the plan on a run's frontier that fits another target, budget, or both.

    Without a budget that is the cheapest plan that meets the target; within one, such as `{"max_bops": 0.4}`, the
    best by the metric (by default the run's). Its file is scored in its runtime on the run's evaluation data; one that
    misses there what the plan met in simulation is passed over. Where the data are gone, its scores are those the run
    simulated of this very plan, which is warned of.

    Raises InputError where the run kept no frontier, did not measure the metric, or its model is gone; TargetError
    where no plan on the frontier is within the budget and meets the target.

    Args:
        run: the run that is picked from.
        metric: what the limit is of, or what is best within a budget; by default the run's.
        limit: the largest value of the metric (of sqnr_db the smallest).
        output: folder or URL that receives the result.
        machine: threads and cache.
        budget: the most that the model may cost, by the name of the option.
        plan: the digest of the only plan to consider, or how it begins; the target is the run's where none is given.

    """
    place = OutputPlace.at(output)
    if place.folder.resolve() == run.folder.resolve():
        raise InputError(f"{place}: holds the run that is picked from; give another folder")
    frontier = frontier_of(run)
    considered = frontier if plan is None else one_plan(frontier, plan)
    asked = MixedPrecisionConfig.model_validate(run.manifest.config)
    if plan is None or limit is not None or budget:
        asked = _asked(asked, frontier, metric, limit, budget or {})
    layers = _prepared(run, asked, machine)
    row, file, measured = _written(run, layers, considered, asked, machine)
    chosen = plan_of_row(row)
    manifest = picked_manifest(run, place, layers, asked, chosen, row, output_file(file, machine.cache))
    manifest = manifest.model_copy(update={"picked_plan": None if plan is None else row["plan"]})
    if measured is not None:
        path = fetch(file, machine.cache)
        record = deployed_record(asked, path, manifest.plan, measured.scores, measured.reference, measured.times)
        manifest = as_deployed(manifest, measured, record)
    tables = {
        "layers": layers,
        "calibration": calibration_with_types(run.table("calibration"), layers, chosen, asked, machine.cache),
        "sensitivity": run.table("sensitivity"),
        "search": chosen_among(frontier, layers, asked, manifest.budgets),
        "frontier": frontier,
        "weights": run.table("weights"),
        **({} if measured is None else {"samples": measured.worst}),
        **{name: table for name, table in run.tables().items() if name == "latency"},
    }
    return write_folder(place, manifest, tables, file, machine.cache)


def _written(
    run: Outcome, layers: pa.Table, frontier: pa.Table, asked: MixedPrecisionConfig, machine: Machine
) -> tuple[Row, Reference, PickedScore | None]:
    """Write the file of the best plan that meets the target in its runtime, too; its row, file and scores.

    Raises TargetError where none does.
    """
    left, wide = frontier, wide_costs(run, asked)
    recipe = QuantizationRecipe(layers, run.table("calibration"), asked.quantization(), (run.table("weights"),))
    while True:
        row = picked_plan(left, asked, wide)
        plan = plan_of_row(row)
        exported = export(recipe, plan.as_dict(), machine, plan.tensor_types(), asked.format, asked.saves_bytes)
        file = exported_reference(exported, machine.cache)
        measured = picked_score(run, layers, asked, file, machine)
        if measured is None or asked.target.met_by(measured.bound):
            return row, file, measured
        if left.num_rows == 1:
            raise TargetError(
                f"no plan on the frontier meets {asked.target} as deployed: one is at {measured.bound:.6g}"
            )
        watcher().noted(f"a plan misses in its runtime what it met in simulation: {measured.bound:.6g}")
        left = left.filter(pc.not_equal(left.column("plan"), row["plan"]))


def _asked(
    config: MixedPrecisionConfig,
    frontier: pa.Table,
    metric: str | None,
    limit: float | None,
    budget: Mapping[str, object],
) -> MixedPrecisionConfig:
    """The run's configuration with another target and budget.

    The run's confidence stays where that was of the same metric: its bounds are known.
    """
    metric, function = metric or config.target.metric, facts(frontier)["function"]
    if limit is not None and not math.isfinite(limit):
        raise InputError(f"the limit must be a finite number, not {limit}")
    if limit is None and not budget:
        raise InputError("give a target or a budget to pick by")
    if metric == "metric_drop" and function is None:
        raise InputError("the run did not measure a metric of yours; give a limit for another one")
    if metric in OWN_METRICS and not config.has_evaluator:
        raise InputError("the run had no evaluator of yours; give the limit of another metric")
    wrong = [name for name in budget if BUDGETS[name] not in (config.cost, *config.budgets)]
    if wrong and len(wrong) == len(budget):
        raise InputError(f"{wrong[0]}: the run's frontier is of the cost {config.cost!r}, not of {BUDGETS[wrong[0]]!r}")
    sure = config.target.confidence if config.target.metric == metric and limit is not None else None
    own = function if metric == "metric_drop" else None
    target = {"metric": metric, "limit": limit, "function": own, "confidence": sure}
    kept = {name: value for name, value in config.model_dump(mode="json").items() if name not in BUDGETS}
    kept.pop("also", None)  # a plan is picked by one target
    if metric not in OWN_METRICS:  # what was measured by it is not asked for
        kept = {name: value for name, value in kept.items() if name not in EvaluatorConfig.model_fields}
    if budget:  # within which nothing is lifted
        kept.pop("lift", None)
    return config_from(**{**kept, **budget, "target": target})


def _prepared(run: Outcome, config: MixedPrecisionConfig, machine: Machine) -> pa.Table:
    """The layer table; its prepared model is made again where the workspace has lost it."""
    layers = run.table("layers")
    if is_prepared(layers, machine.cache):
        return layers
    source = run.manifest.sources.model
    if source is None:
        raise InputError("the run's model was given in memory, and the workspace no longer has it")
    model = refer_model(source)
    if model.sha256 != run.manifest.input.sha256:
        raise InputError(f"{source}: is no longer the model of the run in {run.folder}; run again")
    random = run.manifest.data.random
    return prepare(model=model, machine=machine, random_data=random, **config.preparation())
