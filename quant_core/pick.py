"""Chooses a plan of a finished run's frontier, and writes its model without searching again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from quant_core.config import Criterion, MixedPrecisionConfig, Target
from quant_core.errors import InputError, TargetError
from quant_core.execution.machine import Machine
from quant_core.model.layers import layers_from_table
from quant_core.model.model_file import refer_model
from quant_core.model.prepare import is_prepared, prepare
from quant_core.precision import PrecisionPlan
from quant_core.quantization.export import export, exported_reference
from quant_core.results.outcome import Outcome
from quant_core.results.output import copy_model, manifest_json, narrowed, output_file
from quant_core.results.output_place import MANIFEST
from quant_core.search.cost import COUNTED, cost_summary, counted_cost
from quant_core.search.frontier import METRIC_COLUMNS
from quant_core.storage.references import atomic_write, fetch, made_folder
from quant_core.storage.tables import facts

__all__ = ["pick", "picked_plan"]


def pick(run: Outcome, metric: str, limit: float, output: Path, machine: Machine) -> Outcome:
    """Write the model, and its manifest, of the cheapest plan on a run's frontier that meets a target.

    Its scores are those the run measured of this very plan. Raises InputError where the run kept no frontier, did not
    measure the metric, or its model is gone; TargetError where no plan on the frontier meets the target.
    """
    if output.resolve() == run.folder.resolve():
        raise InputError(f"{output}: holds the run that is picked from; give another folder")
    frontier, config = _frontier(run), MixedPrecisionConfig.model_validate(run.manifest["config"])
    target = _target(metric, limit, facts(frontier)["function"], config.target)
    row = picked_plan(frontier, target)
    plan, layers = PrecisionPlan.from_dict(json.loads(row["precisions"])), _prepared(run, config, machine)
    exported = export(
        layers=layers,
        calibration=run.table("calibration"),
        plan=plan.as_dict(),
        config=config.quantization(),
        weights=[run.table("weights")],
        machine=machine,
    )
    file = exported_reference(exported, machine.cache)
    path = fetch(file, machine.cache)
    (made_folder(output) / MANIFEST).unlink(missing_ok=True)
    manifest = {**run.manifest, **_of_the_plan(run, layers, config, plan, row, target)}
    manifest["output"] = output_file(path, file.beside)
    copy_model(path, file, output)
    atomic_write(output / MANIFEST, manifest_json(manifest).encode())
    return Outcome(output, plan, True, manifest)


def picked_plan(frontier: pa.Table, target: Criterion) -> Mapping[str, Any]:
    """The cheapest row of the frontier that meets a target.

    With a confidence the bounds of the run are held against the limit; they hold for all its plans together, so that
    it does not matter that one is chosen among them.
    """
    column = target.metric if target.confidence is None else "bound"
    rows: Sequence[Mapping[str, Any]] = frontier.to_pylist()
    known = [row for row in rows if row[column] is not None]
    if not known:
        measured = [name for name in METRIC_COLUMNS if any(row[name] is not None for row in rows)]
        raise InputError(f"the run did not measure {target.metric}, but {', '.join(measured)}")
    met = [row for row in known if target.met_by(row[column])]
    if met:
        return met[0]
    best = (max if target.higher_is_better else min)(row[column] for row in known)
    raise TargetError(f"no plan on the frontier meets {target}: the best is at {best:.6g}")


def _frontier(run: Outcome) -> pa.Table:
    if not (run.folder / "frontier.arrow").exists():
        raise InputError(f"{run.folder}: kept no frontier to pick from; run `narrowcast auto` with --frontier")
    return run.table("frontier")


def _target(metric: str, limit: float, function: str | None, asked: Target) -> Target:
    """The new target, with the run's confidence where that was of the same metric: its bounds are known."""
    if not math.isfinite(limit):
        raise InputError(f"the limit must be a finite number, not {limit}")
    if metric == "metric_drop" and function is None:
        raise InputError("the run measured no metric of yours; give the limit of another")
    confidence = asked.confidence if asked.metric == metric else None
    own = function if metric == "metric_drop" else None
    return Target.model_validate({"metric": metric, "limit": limit, "function": own, "confidence": confidence})


def _prepared(run: Outcome, config: MixedPrecisionConfig, machine: Machine) -> pa.Table:
    """The layer table; its prepared model is made again where the workspace has lost it."""
    layers = run.table("layers")
    if is_prepared(layers, machine.cache):
        return layers
    source = run.manifest["sources"].get("model")
    if source is None:
        raise InputError("the run's model was given in memory, and the workspace no longer has it")
    model = refer_model(source)
    if model.sha256 != run.manifest["input"]["sha256"]:
        raise InputError(f"{source}: is no longer the model of the run in {run.folder}; run again")
    return prepare(model=model, machine=machine, **config.preparation())


def _of_the_plan(
    run: Outcome,
    layers: pa.Table,
    config: MixedPrecisionConfig,
    plan: PrecisionPlan,
    row: Mapping[str, Any],
    target: Target,
) -> dict[str, Any]:
    """What the manifest says of this plan in place of the run's; nobody has measured it on held-out data."""
    listed = layers_from_table(layers)
    wide = PrecisionPlan.uniform([layer.name for layer in listed], config.wide)
    ladder = (config.wide, *config.narrow)
    costs = {name: counted_cost(name, listed, ladder) for name in COUNTED}
    mixed = {name: row[name] for name in ("top1", *METRIC_COLUMNS) if row[name] is not None}
    sure = {"confidence": target.confidence}
    if target.confidence is not None:
        looks = run.manifest["target"].get("looks")
        sure |= {"bound": row["bound"], "looks": looks, "holdout": None, "undecided": None}
    errors = run.manifest["standard_errors"]
    return {
        "target": {"metric": target.metric, "limit": target.limit, "function": target.function, "met": True, **sure},
        "scores": {**run.manifest["scores"], "mixed": mixed, "holdout": {}},
        "standard_errors": {part: errors[part] for part in ("float", "wide")},
        "samples": {"evaluation": row["samples"], "holdout": None},
        "plan": plan.as_dict(),
        "tensors": {},
        "narrowed": narrowed(listed, plan, wide, config.wide, costs["bops"]),
        "costs": {**cost_summary(costs.values(), plan, wide), **_objective(run, config.cost, row)},
        "latency": None,
        "picked_from": run.manifest["output"]["sha256"],
        "config": config.model_copy(update={"target": target}).model_dump(mode="json"),
    }


def _objective(run: Outcome, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The cost that the run saved, which may have been measured: as the frontier has it."""
    before = run.manifest["costs"][name]
    return {"objective": name, name: {**before, "mixed": row["cost"], "saved": 1 - row["cost_ratio"]}}
