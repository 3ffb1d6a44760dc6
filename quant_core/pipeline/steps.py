"""The steps of the pipeline, one function each; a job's body calls them one after the other.

`on` is the Runner that calls the stages: in this process, or as Prefect's tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, Literal, cast

import pyarrow as pa

from quant_core.config import Config, LayerWiseConfig, MixedPrecisionConfig, RunConfig
from quant_core.errors import InputError, TargetError
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.latency import processor_name
from quant_core.model.graph import FloatGraph
from quant_core.model.inputs import BATCH_BYTES
from quant_core.model.layers import layers_from_table
from quant_core.model.prepare import prepared_graph
from quant_core.model.sessions import CPU
from quant_core.pipeline.candidate_layers import candidate_layers, warn_of_outputs_not_compared
from quant_core.pipeline.costs import cost_models, device_costs, device_timer
from quant_core.pipeline.findings import Findings, HeldOut, Shipped
from quant_core.pipeline.finished_run import write_output
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.lifting import lifted, rungs_above
from quant_core.pipeline.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plan_search import is_open, search_frontier, search_plans, try_ends
from quant_core.pipeline.preflight import check_data, check_job
from quant_core.pipeline.probe_rounds import probe_rounds
from quant_core.pipeline.stages import BASELINE, CALIBRATE, PREPARE, RANK, ROUND, TIMING
from quant_core.pipeline.study import Config_co, Study
from quant_core.precision import Precision, PrecisionPlan
from quant_core.report.shortfall import missed_budget, missed_target, unsure_of_target
from quant_core.report.verdict import on_random_data
from quant_core.results.outcome import Outcome
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.compared import compared_outputs
from quant_core.storage.data_forms import RandomForm
from quant_core.storage.references import Reference
from quant_core.storage.tables import SENSITIVITY, facts

__all__ = [
    "Decision",
    "Exported",
    "assign",
    "baseline",
    "calibrate",
    "chosen",
    "export",
    "prepare",
    "probe",
    "rank",
    "report",
    "search",
    "verify",
]


@dataclass(frozen=True)
class Finalist:
    """A plan that may be shipped."""

    plan: PrecisionPlan
    """The plan."""
    alpha: float | None
    """The error probability that its bound may spend; None without a confidence."""
    met: bool
    """Whether it met the target in simulation."""


@dataclass(frozen=True)
class Decision(Generic[Config_co]):
    """What came of a search: the plan to write, and those to go on to if its file misses what the plan met."""

    study: Study[Config_co]
    """Everything that was tried."""
    ranking: pa.Table
    """The losses of single layers (schema SENSITIVITY); empty where none was probed."""
    finalists: tuple[Finalist, ...]
    """The best plan first; at least one."""


@dataclass(frozen=True)
class Exported(Generic[Config_co]):
    """The file of the first finalist."""

    decision: Decision[Config_co]
    """What it was decided on."""
    file: Reference
    """The model file."""


def prepare(job: QuantizationJob[RunConfig], on: Runner) -> pa.Table:
    """Check all input, then fold and name the model's nodes; the layer table (schema LAYERS).

    Raises InputError for a model, data or options that cannot be used, before any work is done on them.
    """
    cache = on.machine.cache
    check_job(job, cache)
    if job.config.batch_size is None and on.machine.memory < 2 * BATCH_BYTES:
        watcher().warned(
            f"there are {on.machine.memory >> 20} MiB for each of {on.machine.workers} workers: batches may be "
            "smaller than elsewhere, and the last bit of a number another"
        )
    _tell_of_random_data(job)
    layers = on.run(
        PREPARE, model=job.model, data=job.calibration, random_data=job.random_data, **job.config.preparation()
    )
    # Once more: the prepared model knows the shapes that the file leaves open.
    check_data(prepared_graph(facts(layers)["prepared"], cache), job, cache)
    device_costs(job, layers, cache)
    candidate_layers(layers, job.config, cache)  # which refuses names that are no layer's
    return layers


def _tell_of_random_data(job: QuantizationJob[RunConfig]) -> None:
    """Tell whoever watches that this is a dry run, and which numbers the samples are made of."""
    given = filter(None, (job.calibration, job.evaluation, job.holdout))
    form = next((data.form for data in given if isinstance(data.form, RandomForm)), None)
    if form is not None:
        samples = "; ".join(map(str, form.inputs))
        watcher().warned(
            f"a dry run: {' and '.join(job.random_data)} are {form.count} random samples ({samples}), which say "
            "nothing about accuracy"
        )


def calibrate(job: QuantizationJob[RunConfig], layers: pa.Table, on: Runner) -> pa.Table:
    """Run the float model on the calibration data; a histogram of each tensor (schema CALIBRATION)."""
    graph = prepared_graph(facts(layers)["prepared"], on.machine.cache)
    histograms = on.run(
        CALIBRATE,
        layers=layers,
        data=job.calibration,
        batch_size=job.config.batch_size,
        providers=job.config.providers,
        compared=compared_outputs(graph, job.config.output),
    )
    if bad := facts(histograms).get("nan_outputs"):
        watcher().warned(f"on the calibration data the float model computes a NaN in {', '.join(bad)}: not compared")
    return histograms


def assign(job: QuantizationJob[LayerWiseConfig], layers: pa.Table, on: Runner) -> PrecisionPlan:
    """Return the plan that the user has chosen; raises InputError for a name that is no layer and no tensor."""
    if job.assignment is None:
        raise InputError("give the plan: types with the names of layers and tensors")
    graph = prepared_graph(facts(layers)["prepared"], on.machine.cache)
    return job.assignment.plan(graph, layers_from_table(layers), job.config.wide)


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
        _check_ranges(plan, prepared_graph(facts(layers)["prepared"], on.machine.cache), calibration)
    warn_of_outputs_not_compared(layers, job.config, on.machine.cache)
    ladder = _ladder(job, plan)
    names = [layer.name for layer in layers_from_table(layers)]
    study = Study(
        job=job,
        layers=layers,
        calibration=calibration,
        weights=_rounded(job, layers, (*rungs_above(job.config), *ladder), on),
        baseline=_float_outputs(job, layers, job.evaluation, on),
        costs=cost_models(job, layers, calibration, ladder, on),
        candidates=candidate_layers(layers, job.config, on.machine.cache),
        samples=_plan_samples(job.config),
        in_runtime=job.config.score_in == "runtime",
    )
    PlanEvaluator(study, on).evaluate(PrecisionPlan.uniform(names, job.config.wide))
    return lifted(study, on)


def _ladder(job: QuantizationJob[RunConfig], plan: PrecisionPlan | None) -> tuple[Precision, ...]:
    """Return every precision that a layer may have, the wide one first."""
    chosen = job.config.ladder if plan is None else (job.config.wide, *(precision for _, precision in plan.layers))
    return tuple(dict.fromkeys(chosen))


def _plan_samples(config: RunConfig) -> Literal["auto", "all"] | int:
    """Return on how many samples a plan is scored.

    A plan of the frontier is given out as it was scored, and which plan is the best shows on the same samples only.
    """
    if isinstance(config, MixedPrecisionConfig) and not config.frontier and config.budget is None:
        return config.samples
    return "all"


def _check_ranges(plan: PrecisionPlan, graph: FloatGraph, calibration: pa.Table) -> None:
    """Refuse to name a type for a tensor that no scale can be chosen for: it would stay float all the same."""
    observed = set(calibration.column("tensor").to_pylist())
    for name, kind in plan.tensors:
        if graph.is_float_activation(name) and name not in observed:
            raise InputError(f"tensor {name!r} cannot be {kind}: in calibration it was empty, or infinite")


def _rounded(
    job: QuantizationJob[RunConfig], layers: pa.Table, precisions: Iterable[Precision], on: Runner
) -> list[pa.Table]:
    """Round weights with the calibration data in view, one table a type (schema WEIGHTS)."""
    config = job.config
    return [
        on.run(
            ROUND,
            layers=layers,
            data=job.calibration,
            weights=kind.code,
            config=config.quantization(),
            batch_size=config.batch_size,
        )
        for kind in dict.fromkeys(precision.weights for precision in precisions)
        if config.chooses_weights(kind)
    ]


def _float_outputs(job: QuantizationJob[RunConfig], layers: pa.Table, data: Reference, on: Runner) -> pa.Table:
    return on.run(
        BASELINE,
        model=job.model,
        layers=layers,
        data=data,
        output=job.config.output,
        function=job.config.target.function,
        batch_size=job.config.batch_size,
    )


def probe(study: Study, on: Runner) -> list[pa.Table]:
    """Narrow each layer alone and measure its loss, where that is needed to find a plan (schema PROBES).

    First the plans are tried that may need no search: all layers narrow, and the cheapest.
    """
    if not study.candidates:
        return []
    try_ends(PlanEvaluator(study, on))
    return probe_rounds(study, on) if is_open(study) or study.job.config.frontier else []


def rank(study: Study[RunConfig], losses: list[pa.Table], on: Runner) -> pa.Table:
    """Sort the probes by ascending loss (schema SENSITIVITY)."""
    if not losses:
        return SENSITIVITY.empty_table()
    return on.run(RANK, layers=study.layers, probes=losses, start=str(study.ladder[0]))


def search(study: Study, ranking: pa.Table, on: Runner) -> Decision:
    """Find the plan to write: round by round, each of which scores one plan."""
    evaluator = PlanEvaluator(study, on)
    if ranking.num_rows and is_open(study):
        search_plans(evaluator, ranking)
    if ranking.num_rows and study.job.config.frontier:
        search_frontier(evaluator, ranking)
    best = study.best_first() or [study.closest]
    return Decision(study, ranking, tuple(Finalist(trial.plan, trial.alpha, trial.met) for trial in best))


def chosen(study: Study[LayerWiseConfig], plan: PrecisionPlan) -> Decision[LayerWiseConfig]:
    """Decide on the plan that the user has chosen."""
    confidence = study.job.config.target.confidence
    alpha = None if confidence is None else 1 - confidence
    return Decision(study, SENSITIVITY.empty_table(), (Finalist(plan, alpha, met=False),))


def export(decision: Decision[Config], on: Runner) -> Exported[Config]:
    """Write the model file of the first finalist."""
    return Exported(decision, PlanEvaluator(decision.study, on).export(decision.finalists[0].plan))


def verify(exported: Exported[Config], on: Runner) -> Findings[Config]:
    """Measure the model file as it is shipped, on evaluation and held-out data.

    While a file misses what its plan met, the next finalist is written and measured. What misses in the runtime what it
    met in simulation shows that the two differ: from then on the search goes on in the runtime.
    """
    decision = exported.decision
    shipped = _shipped(exported, on)
    while not shipped.met and decision.finalists[0].met and len(decision.finalists) > 1:
        decision = _after_a_miss(decision, on)
        shipped = _shipped(export(decision, on), on)
    held_out, times = _held_out(decision.study, shipped, on), _model_times(decision.study, shipped, on)
    return Findings(decision.study, decision.ranking, shipped, held_out, times)


def _after_a_miss(decision: Decision[Config], on: Runner) -> Decision[Config]:
    """Decide what to write next: of the plans left, or of those that a search in the runtime finds."""
    study, config = decision.study, decision.study.job.config
    differs = (profile_of(config.runtime).opens is not None or config.providers != CPU) and not study.in_runtime
    later = replace(decision, finalists=decision.finalists[1:])
    if not differs or not decision.ranking.num_rows or not isinstance(config, MixedPrecisionConfig):
        return later
    watcher().noted("the file misses in its runtime what its plan met in simulation: the search goes on in the runtime")
    study = replace(study, in_runtime=True)
    search_plans(PlanEvaluator(cast("Study[MixedPrecisionConfig]", study), on), decision.ranking)
    found = tuple(Finalist(trial.plan, trial.alpha, trial.met) for trial in study.best_first())
    return replace(later, study=study, finalists=found or later.finalists)


def _shipped(exported: Exported[RunConfig], on: Runner) -> Shipped:
    """Score a file; from now on that is what its plan scores."""
    study, finalist = exported.decision.study, exported.decision.finalists[0]
    evaluator = PlanEvaluator(study, on)
    scores = evaluator.score_file(exported.file, study.baseline, study.job.evaluation)
    reference = _reference(evaluator, exported.file, finalist.plan, scores)
    trial = study.trial_of(finalist.plan, scores, finalist.alpha)
    study.add_or_replace(trial)
    return Shipped(finalist.plan, exported.file, scores, reference, trial.bound, trial.met)


def _reference(evaluator: PlanEvaluator[RunConfig], file: Reference, plan: PrecisionPlan, scores: pa.Table) -> pa.Table:
    """Return what the pairs of a file say (schema SCORES), which nothing is run for where it is known.

    That is the case where the runtime keeps to the pairs, or where the plan was simulated on the CPU, maybe on some
    samples only; on as many as begin a search it is simulated now, if it was not.
    """
    study = evaluator.study
    if not profile_of(study.job.config.runtime).opens:
        return scores
    if study.job.config.providers != CPU:
        return evaluator.score_file(file, study.baseline, study.job.evaluation, "reference")
    simulated = study.simulated_scores(plan)
    if simulated is not None:
        watcher().noted("what the pairs of the file say is known from the search: it is not computed again")
        return simulated
    if evaluator.simulates_reference:
        return evaluator.first_scores(plan)
    return evaluator.score_file(file, study.baseline, study.job.evaluation, "reference")


def _held_out(study: Study[RunConfig], shipped: Shipped, on: Runner) -> HeldOut | None:
    """Score the shipped file on held-out data, where there are any."""
    data = study.job.holdout
    if data is None:
        return None
    outputs = _float_outputs(study.job, study.layers, data, on)
    return HeldOut(outputs, PlanEvaluator(study, on).score_file(shipped.file, outputs, data))


def _model_times(study: Study[RunConfig], shipped: Shipped, on: Runner) -> pa.Table | None:
    """Time the float, the wide and the shipped model, where that is asked for (schema MODEL_TIMES)."""
    if not study.job.config.times_models:
        return None
    wide = PlanEvaluator(study, on).export(study.wide.plan)
    return on.run(
        TIMING,
        layers=study.layers,
        models={"float": study.job.model, "wide": wide, "mixed": shipped.file},
        data=study.job.calibration,
        processor=profile_of(study.job.config.runtime).place(processor_name()) or processor_name(),
        session=dict(profile_of(study.job.config.runtime).session_entries),
        timer=device_timer(study.job.config),
        runtime=study.job.config.runtime,
    )


def report(findings: Findings[RunConfig], on: Runner) -> Outcome:
    """Write the output folder: model, manifest, tables and report.

    Raises TargetError where a plan was searched for and none is within the target and the budget.
    """
    outcome = write_output(findings, on)
    if not outcome.met and findings.study.job.assignment is None:
        mark = on_random_data(findings.study.job.random_data)
        raise TargetError(f"{_shortfall(findings.study)}{mark}", outcome)
    return outcome


def _shortfall(study: Study[RunConfig]) -> str:
    """Say in one line what is missed, and by how much."""
    config, best = study.job.config, (study.best_first() or [study.closest])[0]
    if not study.affordable(best.plan):
        cost = study.cost
        return missed_budget(config, cost.total(best.plan), cost.unit, cost.ratio(best.plan, study.wide.plan))
    score = best.score.value
    if best.alpha is None or not config.target.met_by(score):
        return missed_target(config, score, best.plan)
    return unsure_of_target(config, score, best.bound, study.samples_to_settle(best), best.plan)
