"""The manifest of a run for another of its plans, and that plan's place among those of the frontier."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from quant_core.config import MixedPrecisionConfig
from quant_core.manifest import Budget, Costs, Deployed, Manifest, Output, Samples, Scores, Target
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.other_products import other_products
from quant_core.pipeline.finished_run.chosen_weights import chosen_weights
from quant_core.pipeline.finished_run.plan_summary import budgets_kept, cost_summaries, narrowed
from quant_core.pipeline.picking.frontier import METRIC_COLUMNS
from quant_core.pipeline.picking.frontier_choice import score_column
from quant_core.pipeline.picking.picked_score import PickedScore
from quant_core.precision import PrecisionPlan
from quant_core.probing.ranking import macs_share
from quant_core.results.outcome import Outcome
from quant_core.results.output_place import OutputPlace
from quant_core.runtimes.storage import storage
from quant_core.search import within
from quant_core.search.cost import COUNTED, counted_cost
from quant_core.storage.frontier_rows import Row, costs_of_plan, plan_of_row
from quant_core.storage.schemas import SEARCH
from quant_core.urls import is_remote

__all__ = ["as_deployed", "chosen_among", "picked_manifest"]


def as_deployed(manifest: Manifest, measured: PickedScore, record: Deployed) -> Manifest:
    """Return a manifest with scores that were measured of the file in place of those of a simulation."""
    target = manifest.target
    if target.confidence is not None:
        target = target.model_copy(update={"bound": measured.bound})
    scores = manifest.scores.model_copy(update={"mixed": measured.values})
    errors = manifest.standard_errors.model_copy(update={"mixed": measured.errors})
    samples = Samples(evaluation=measured.scores.num_rows, holdout=None)
    changed = {"target": target, "scores": scores, "standard_errors": errors, "samples": samples, "deployed": record}
    return manifest.model_copy(update=changed)


def _name(run: Outcome) -> str:
    """Return where the run is, so that it can be picked from again."""
    output = run.manifest.sources.output
    return output if output is not None and is_remote(output) else str(run.folder)


def picked_manifest(
    run: Outcome,
    place: OutputPlace,
    layers: pa.Table,
    config: MixedPrecisionConfig,
    plan: PrecisionPlan,
    row: Row,
    output: Output,
) -> Manifest:
    """Return the run's manifest with what is known of another of its plans; held-out data has not seen that one.

    Args:
        run: the run that is picked from.
        place: the folder that the model goes to.
        layers: layer table of the prepared model.
        config: the run's configuration with the target and the budget that are asked for now.
        plan: the plan that is picked.
        row: the same as a row of the frontier (schema FRONTIER).
        output: the model file that was made of it.

    """
    before, listed = run.manifest, layers_from_table(layers)
    others = other_products(layers)
    wide, bops = _wide(listed, config), counted_cost("bops", listed, (config.wide, *plan.precisions), others)
    costs = _costs(run, layers, config, plan, row)
    changed = {
        "job": "pick",
        "output": output,
        "target": _target(run, config, row),
        **budgets_kept(config, costs),
        "scores": before.scores.model_copy(update={"mixed": _mixed_scores(row), "holdout": {}}),
        "outputs": (),
        "standard_errors": Scores(float=before.standard_errors.float, wide=before.standard_errors.wide),
        "samples": Samples(evaluation=row["samples"], holdout=None),
        "plan": plan.as_dict(),
        "tensors": plan.tensor_types(),
        "float_tensors": before.float_tensors if plan.tensors else (),
        "weights": chosen_weights(plan, [run.table("weights")]),
        "narrowed": narrowed(layers, plan, wide, config.wide, bops).model_copy(update={"slow": before.narrowed.slow}),
        "costs": costs,
        "deployed": None,
        "latency": None,
        "sources": before.sources.model_copy(update={"run": _name(run), "output": str(place)}),
        "config": config.model_dump(mode="json"),
        "picked_from": before.output.sha256,
    }
    return before.model_copy(update=changed)


def _wide(layers: Sequence[Layer], config: MixedPrecisionConfig) -> PrecisionPlan:
    return PrecisionPlan.uniform([layer.name for layer in layers], config.wide)


def _target(run: Outcome, config: MixedPrecisionConfig, row: Row) -> Target:
    """Return the target as the plan meets it, with the bound that the run found for the plan."""
    target = config.target
    plain = Target(
        metric=target.metric, limit=target.limit, function=target.function, met=True, confidence=target.confidence
    )
    if target.confidence is None:
        return plain
    looks = run.manifest.target.looks
    return plain.model_copy(update={"bound": row["bound"], "looks": looks, "holdout": None, "undecided": None})


def _mixed_scores(row: Row) -> dict[str, float]:
    return {name: row[name] for name in ("top1", *METRIC_COLUMNS) if row[name] is not None}


def _costs(run: Outcome, layers: pa.Table, config: MixedPrecisionConfig, plan: PrecisionPlan, row: Row) -> Costs:
    """Return what the plan costs, as the frontier has it: some costs are measured."""
    listed, others = layers_from_table(layers), other_products(layers)
    precisions = (config.wide, *plan.precisions)
    counted = [counted_cost(name, listed, precisions, others, storage(config.quantization())) for name in COUNTED]
    found = cost_summaries(counted, plan, _wide(listed, config))
    for name, cost in costs_of_plan(row, config.cost).items():
        before = run.manifest.costs.of(name)
        saved = 1 - cost / before.wide if before.wide else 0.0
        found[name] = before.model_copy(update={"mixed": cost, "saved": saved})
    return Costs(objective=config.cost, **found)


def chosen_among(
    frontier: pa.Table, layers: pa.Table, asked: MixedPrecisionConfig, budgets: Sequence[Budget]
) -> pa.Table:
    """The plans of the frontier as a search would have tried them, the dearest first (schema SEARCH)."""
    listed, column, target = layers_from_table(layers), score_column(asked), asked.target
    others = other_products(layers)
    known = [row for row in reversed(frontier.to_pylist()) if row[column] is not None]
    rows = [
        {
            **{name: row.get(name) for name in ("plan", "layers_narrowed", "cost", "samples", "precisions", "tensors")},
            "step": step,
            "macs_share": macs_share(listed, plan_of_row(row), asked.wide, others),
            "score": row[target.metric],
            "standard_error": None,
            "bound": row[column],
            "accepted": target.met_by(row[column]) and _is_kept(row, asked.cost, budgets),
        }
        for step, row in enumerate(known)
    ]
    return pa.Table.from_pylist(rows, schema=SEARCH)


def _is_kept(row: Row, cost: str, budgets: Sequence[Budget]) -> bool:
    """Return whether a plan of the frontier is within all budgets."""
    costs = costs_of_plan(row, cost)
    return all(within(costs[budget.cost], budget.limit) for budget in budgets)
