"""The steps that write the model file and measure it as it is shipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, cast

import onnx
import pyarrow as pa

from quant_core.config import Config, MixedPrecisionConfig, RunConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.model.half_precision import types_kept
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import CPU
from quant_core.pipeline.candidates.lifting import lifted
from quant_core.pipeline.costs import device_timer
from quant_core.pipeline.finished_run.findings import Findings, HeldOut, Shipped
from quant_core.pipeline.job import Config_co
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.plan_search import search_plans
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.stages import TIMING
from quant_core.pipeline.steps.baselines import float_outputs
from quant_core.pipeline.steps.decision import Decision, Finalist, probe, rank, search
from quant_core.precision import PrecisionPlan
from quant_core.runtimes.processor import processor_name
from quant_core.runtimes.registry import profile_of
from quant_core.storage.references import Reference


@dataclass(frozen=True)
class Exported(Generic[Config_co]):
    """The file of the first finalist."""

    decision: Decision[Config_co]
    """What it was decided on."""
    file: Reference
    """The model file."""


def export(decision: Decision[Config], on: Runner) -> Exported[Config]:
    """Write the model file of the first finalist."""
    return Exported(decision, PlanEvaluator(decision.study, on).export(decision.finalists[0].plan))


def verify(exported: Exported[Config], on: Runner) -> Findings[Config]:
    """Measure the model file as it is shipped, on evaluation and held-out data.

    While a file misses what its plan met, the next finalist is written and measured. What misses in the runtime what it
    met in simulation shows that the two differ: from then on the search goes on in the runtime. Where no file meets the
    target, the one of least error is shipped; a plan that the user has chosen is shipped whatever it scores.
    """
    decision = exported.decision
    shipped = _shipped(exported, on)
    while not shipped.met and decision.finalists[0].met:
        following = _after_a_miss(decision, on)
        if following is None:
            break
        decision = following
        shipped = _shipped(export(decision, on), on)
    if not shipped.met and isinstance(decision.study.job.config, MixedPrecisionConfig) and not decision.study.budgets:
        shipped = _closest(decision, shipped, on)
    held_out, times = _held_out(decision.study, shipped, on), _model_times(decision.study, shipped, on)
    return Findings(decision.study, decision.ranking, shipped, held_out, times)


def _after_a_miss(decision: Decision[Config], on: Runner) -> Decision[Config] | None:
    """Decide what to write next: of the plans left, of those that a search in the runtime finds, or of higher rungs.

    None where there is nothing left.
    """
    study, config = decision.study, decision.study.job.config
    differs = (profile_of(config.runtime).opens is not None or config.providers != CPU) and not study.in_runtime
    later = replace(decision, finalists=decision.finalists[1:]) if len(decision.finalists) > 1 else None
    if not differs or not isinstance(config, MixedPrecisionConfig):
        return later
    searching = replace(cast("Study[MixedPrecisionConfig]", study), in_runtime=True)
    if later is None:
        return cast("Decision[Config] | None", _lifted_further(searching, on))
    watcher().noted("in its runtime the file misses the target its plan met in simulation: the search goes on there")
    if not decision.ranking.num_rows:  # all layers narrow met it at once, so that none was probed
        return cast("Decision[Config]", search(searching, rank(searching, probe(searching, on), on), on))
    search_plans(PlanEvaluator(searching, on), decision.losses)
    found = tuple(Finalist(trial.plan, trial.alpha, trial.met) for trial in searching.best_first())
    return replace(later, study=cast("Study[Config]", searching), finalists=found or later.finalists)


def _closest(decision: Decision[Config], shipped: Shipped, on: Runner) -> Shipped:
    """Return the file of least error: this one, or that of a plan which did better as far as it was measured."""
    measured = next(trial for trial in decision.study.closest_first() if not trial.simulated)
    if measured.plan == shipped.plan:
        return shipped
    other = replace(decision, finalists=(Finalist(measured.plan, measured.alpha, measured.met),))
    found = _shipped(export(other, on), on)
    files = {file.plan: file for file in (shipped, found)}
    return next(files[trial.plan] for trial in decision.study.closest_first() if trial.plan in files)


def _lifted_further(study: Study[MixedPrecisionConfig], on: Runner) -> Decision[MixedPrecisionConfig] | None:
    """Search once more, with the tensors in float and from the rung that meet the target in the runtime, if any do."""
    highest = lifted(study, on)
    if highest.start.plan == study.start.plan or not highest.start.met:
        return None
    return search(highest, rank(highest, probe(highest, on), on), on)


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
    samples only. If it was not, it is simulated now, on a sixteenth of them: this is told, and nothing hangs on it.
    """
    study = evaluator.study
    if not profile_of(study.job.config.runtime).opens:
        return scores
    if study.job.config.providers != CPU:
        return evaluator.score_file(file, study.baseline, study.job.evaluation, "reference")
    simulated = study.simulated_scores(plan)
    if simulated is not None:
        watcher().noted("the score of the Q/DQ pairs is known from the search and not computed again")
        return simulated
    if evaluator.simulates_reference:
        return evaluator.scores_on_share(plan, 1 / 16, step="verify")
    return evaluator.score_file(file, study.baseline, study.job.evaluation, "reference")


def _held_out(study: Study[RunConfig], shipped: Shipped, on: Runner) -> HeldOut | None:
    """Score the shipped file on held-out data, where there are any."""
    data = study.job.holdout
    if data is None:
        return None
    outputs = float_outputs(study.job, study.layers, data, on)
    return HeldOut(outputs, PlanEvaluator(study, on).score_file(shipped.file, outputs, data))


def _has_bfloat16(study: Study[RunConfig], on: Runner) -> bool:
    """Return whether the model is in bfloat16, which ONNX Runtime has no kernels for here."""
    graph = prepared_graph(study.layers, on.machine.cache)
    return onnx.TensorProto.BFLOAT16 in types_kept(graph).values()


def _model_times(study: Study[RunConfig], shipped: Shipped, on: Runner) -> pa.Table | None:
    """Time the float and the shipped model, and the wide one where that is asked for (schema MODEL_TIMES).

    Otherwise a brief timing shows whether the shipped one is slower than the float one; None where the runtime's
    times are not to be had here.
    """
    config = study.job.config
    if profile_of(config.runtime).is_simulator and config.timer is None:
        return None
    profile, models = profile_of(config.runtime), {"float": study.job.model, "mixed": shipped.file}
    if config.times_models:
        wide = PlanEvaluator(study, on).export(study.wide.plan)
        models = {"float": study.job.model, "wide": wide, "mixed": shipped.file}
    elif not profile.is_timed_here or _has_bfloat16(study, on):
        return None
    return on.run(
        TIMING,
        layers=study.layers,
        models=models,
        data=study.job.calibration,
        processor=profile.place or processor_name(),
        session=dict(profile.session_entries),
        timer=device_timer(config),
        runtime=config.runtime,
        brief=not config.times_models,
        batch_size=config.time_batch,
    )
