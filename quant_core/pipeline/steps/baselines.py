"""The step that scores the float and the wide model: a study begins."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from quant_core.config import Config, LayerWiseConfig, MixedPrecisionConfig, RunConfig
from quant_core.errors import InputError
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.calibration_stages import note_few_columns, scored_as_calibrated
from quant_core.pipeline.candidates.candidate_blocks import candidate_blocks, counted_neighbours
from quant_core.pipeline.candidates.candidate_layers import (
    candidate_layers,
    note_rules_without_layers,
    note_slow_layers,
    warn_of_outputs_not_compared,
)
from quant_core.pipeline.candidates.lifting import lifted
from quant_core.pipeline.candidates.rungs import rungs_above
from quant_core.pipeline.costs import cost_models
from quant_core.pipeline.improvement import improved
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator, own_score_of
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.stages import BASELINE
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.compared import class_count
from quant_core.scoring.evaluator import Evaluator
from quant_core.scoring.own_scores import with_float_score
from quant_core.storage.references import Reference


def assign(job: QuantizationJob[LayerWiseConfig], layers: pa.Table, on: Runner) -> PrecisionPlan:
    """Return the plan that the user has chosen.

    Raises InputError for a name that is no layer and no tensor, and for a precision that the runtime has not got, or
    that is not written in the format.
    """
    if job.assignment is None:
        raise InputError("give the plan: types with the names of layers and tensors")
    graph = prepared_graph(layers, on.machine.cache)
    plan = job.assignment.plan(graph, layers_from_table(layers), job.config.wide)
    for precision in _ladder(job, plan):
        if why := profile_of(job.config.runtime).why_not(precision):
            raise InputError(f"runtime: {why}")
    if why := job.config.why_not_written(_ladder(job, plan)):
        raise InputError(f"format: {why}")
    return plan


def baseline(
    job: QuantizationJob[Config],
    layers: pa.Table,
    calibration: pa.Table,
    on: Runner,
    plan: PrecisionPlan | None = None,
) -> Study[Config]:
    """Score the float model and the wide plan, and build the cost models: a study with one trial.

    It has more where a search has to begin above wide (see `lifting`).

    `plan` is the one that the user has chosen, if so.
    """
    if plan is not None:
        _check_ranges(plan, prepared_graph(layers, on.machine.cache), calibration)
    warn_of_outputs_not_compared(layers, job.config, on.machine.cache)
    note_rules_without_layers(layers, job.config, on.machine.cache)
    note_slow_layers(layers, job.config, on.machine.cache)
    ladder = _ladder(job, plan)
    names = [layer.name for layer in layers_from_table(layers)]
    lifts = rungs_above(job.config)
    recipe = QuantizationRecipe(layers, calibration, job.config.quantization(), providers=job.config.providers)
    better = improved(job, recipe, ladder, lifts, on)
    note_few_columns(better.recipe.weights)
    job = replace(job, config=job.config.model_copy(update={"symmetric": better.recipe.config.symmetric}))
    floats = float_outputs(job, layers, job.evaluation, on)
    layers, calibration = better.recipe.layers, better.recipe.calibration
    candidates = candidate_layers(layers, job.config, on.machine.cache)
    blocks = candidate_blocks(layers, candidates, job.config, on.machine.cache)
    study = Study(
        job=job,
        layers=layers,
        calibration=calibration,
        weights=better.recipe.weights,
        improvements=better.tried,
        baseline=floats,
        costs=cost_models(job, layers, calibration, ladder, on),
        candidates=candidates,
        blocks=blocks,
        neighbours=counted_neighbours(layers, blocks, job.config, on.machine.cache),
        samples=job.config.plan_samples if isinstance(job.config, MixedPrecisionConfig) else "all",
        in_runtime=job.config.score_in == "runtime" or job.config.has_evaluator,
    )
    wide = PlanEvaluator(study, on).evaluate(PrecisionPlan.uniform(names, job.config.wide))
    _warn_of_labels(wide.scores, prepared_graph(layers, on.machine.cache), job)
    return lifted(study, on)


def _warn_of_labels(scores: pa.Table, graph: FloatGraph, job: QuantizationJob[Config]) -> None:
    """Warn of labels that are no better than guesses: they may be those of other samples, or classes."""
    classes = class_count(graph, job.config.output)
    right = pc.mean(scores.column("float_top1")).as_py()
    if right is not None and classes is not None and right <= 1 / classes:
        watcher().warned(
            f"the float model's Top-1 is {right:.1%}, where guessing one of {classes} classes gives {1 / classes:.1%}: "
            f"the labels in {job.evaluation} may be of other samples, or number the classes otherwise"
        )


def _ladder(job: QuantizationJob[RunConfig], plan: PrecisionPlan | None) -> tuple[Precision, ...]:
    """Return every precision that a layer may have, the wide one first."""
    chosen = job.config.ladder if plan is None else (job.config.wide, *(precision for _, precision in plan.layers))
    return tuple(dict.fromkeys(chosen))


def _check_ranges(plan: PrecisionPlan, graph: FloatGraph, calibration: pa.Table) -> None:
    """Refuse to name a type for a tensor that no scale can be chosen for: it would stay float all the same."""
    observed = set(calibration.column("tensor").to_pylist())
    for name, kind in plan.tensors:
        if graph.is_float_activation(name) and name not in observed:
            raise InputError(f"tensor {name!r} cannot be {kind}: in calibration it was empty, or infinite")


def float_outputs(job: QuantizationJob[RunConfig], layers: pa.Table, data: Reference, on: Runner) -> pa.Table:
    """Run the float model on data: what every score is held against (schema OUTPUTS).

    The facts hold what the user's evaluator says of it, too; not where that would be of the evaluation data again.
    """
    outputs = on.run(
        BASELINE,
        model=job.model,
        layers=layers,
        data=data,
        output=job.config.output,
        function=job.config.metric_function,
        batch_size=job.config.batch_size,
        as_calibrated=scored_as_calibrated(job, prepared_graph(layers, on.machine.cache), data),
    )
    evaluator = Evaluator.of(job.config)
    if evaluator is None or (data != job.evaluation and not evaluator.knows_data):
        return outputs
    own = own_score_of(evaluator, None, layers, data, profile_of(job.config.runtime), on)
    return with_float_score(outputs, own, job.config.own_target)
