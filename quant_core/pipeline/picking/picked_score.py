"""What a picked plan's file scores in its runtime, on the evaluation data of the run that it is picked from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from quant_core.config import MixedPrecisionConfig
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.progress import watcher
from quant_core.latency import model_times
from quant_core.model.model_file import refer_model
from quant_core.pipeline.plans.trial import target_score
from quant_core.results.outcome import Outcome
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.confidence import alpha_of_look, bounds
from quant_core.scoring.evaluation import score_file
from quant_core.scoring.evaluator import Evaluator, own_scores
from quant_core.scoring.float_outputs import float_outputs
from quant_core.scoring.metrics import scores_of
from quant_core.scoring.own_scores import own_values, standard_errors, with_float_score, with_own_scores
from quant_core.scoring.worst_samples import worst_samples
from quant_core.storage.data import refer_data
from quant_core.storage.references import Reference

__all__ = ["PickedScore", "picked_score"]


@dataclass(frozen=True)
class PickedScore:
    """What was measured of a file."""

    scores: pa.Table
    """Opened as its runtime opens it (schema SCORES)."""
    reference: pa.Table
    """With all optimisations off."""
    values: dict[str, float]
    """The scores by metric, the user's own among them."""
    errors: dict[str, float]
    """Their standard errors over samples."""
    bound: float
    """The number held against the limit: the score, or its confidence bound."""
    worst: pa.Table
    """The samples that it does worst on (schema SAMPLES)."""
    times: pa.Table | None
    """How long it and the float model take (schema MODEL_TIMES); None where the runtime's times are not to be had."""


def picked_score(
    run: Outcome, layers: pa.Table, config: MixedPrecisionConfig, file: Reference, machine: Machine
) -> PickedScore | None:
    """Score a file as its runtime opens it; None, with a warning, where the run's model or data are not there any more.

    With a confidence, its bound is as wide as that of the run's last plan.
    """
    try:
        model, data = _sources(run, machine)
    except (InputError, OSError) as error:
        watcher().warned(f"{error}: the scores told are those that the run simulated, not those of the file")
        return None
    target = config.target
    function, batch_size = target.function, config.batch_size
    baseline = float_outputs(model, layers, data, config.output, function, batch_size, machine)
    profile = profile_of(config.runtime)
    runtime = profile.scored_in
    scores, reference = (
        score_file(file, layers, baseline, data, function, batch_size, machine, name) for name in (runtime, "reference")
    )
    if evaluator := Evaluator.of(config):
        place = profile.place
        theirs, ours = (own_scores(one, layers, data, evaluator, runtime, place, machine) for one in (None, file))
        scores = with_own_scores(scores, ours, with_float_score(baseline, theirs, target))
    score = target_score(target, scores, baseline)
    sure = target.confidence
    alpha = None if sure is None else alpha_of_look(sure, max((run.manifest.target.looks or 1) - 1, 0))
    bound = score.value if alpha is None else bounds(target.metric, scores, alpha).worst(target)
    own = {"metric_drop": score.value} if target.function else {}
    own |= {name: one.value for name, one in own_values(target, scores).items()}
    worst = worst_samples(file, layers, baseline, scores, data, target.metric, machine, runtime)
    times = _times(config, layers, {"float": model, "mixed": file}, data, machine)
    return PickedScore(scores, reference, scores_of(scores) | own, standard_errors(target, scores), bound, worst, times)


def _times(
    config: MixedPrecisionConfig, layers: pa.Table, models: Mapping[str, Reference], data: Reference, machine: Machine
) -> pa.Table | None:
    profile = profile_of(config.runtime)
    if not profile.is_timed_here:
        return None
    return model_times(
        layers,
        models,
        data,
        profile.place,
        machine,
        profile.session_entries,
        runtime=profile.name,
        brief=True,
        batch_size=config.time_batch,
    )


def _sources(run: Outcome, machine: Machine) -> tuple[Reference, Reference]:
    """Return the model and the evaluation data of a run; raises InputError where they are gone, or others now."""
    sources, known = run.manifest.sources, run.manifest
    if sources.model is None or sources.evaluation is None or known.data is None:
        raise InputError("the run's model or evaluation data were given in memory")
    model, data = refer_model(sources.model), refer_data(sources.evaluation, machine.cache, role="evaluation")
    for place, found, wanted in (
        (sources.model, model.sha256, known.input.sha256),
        (sources.evaluation, data.sha256, known.data.evaluation),
    ):
        if found != wanted:
            raise InputError(f"{place} is no longer what it was in the run")
    return model, data
