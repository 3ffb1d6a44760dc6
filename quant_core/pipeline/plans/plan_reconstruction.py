"""Makes the weights of the best plan make up for each other, and goes on from what that leaves of the target.

What weights lose depends on what the layers before them lose, so those that were chosen for one precision of all layers
give a mix little. Here they are chosen for the mix itself (see `weight_reconstruction`). Its error falls, by a fourth
to a half in 4-bit mixes, and more layers may be narrowed; then those of the plan that this leads to are chosen anew.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from quant_core.config import MixedPrecisionConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.pipeline.calibration_trial import CalibrationTrial
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.plan_search import go_on, is_open
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import Trial
from quant_core.precision import PrecisionPlan
from quant_core.report.sentences.improvements import improvement_sentence

__all__ = ["reconstructed_search"]

_ROUNDS = 6
"""Plans whose weights are reconstructed, at most; most searches end earlier."""


def reconstructed_search(
    study: Study[MixedPrecisionConfig], ranking: pa.Table, on: Runner
) -> Study[MixedPrecisionConfig]:
    """Reconstruct the weights of the best plan and search on, as long as that leads to a cheaper plan."""
    for _ in range(_ROUNDS):
        best = study.best_first()[:1]
        better = _reconstructed(study, best[0].plan, on) if best else None
        if better is None:
            break
        if is_open(better):
            go_on(PlanEvaluator(better, on), ranking)
        found = better.best_first()[:1]
        if not found or not _is_better(study, found[0], best[0]):
            unused = better.improvements[-1].model_copy(update={"kept": False})
            return replace(study, improvements=(*study.improvements, unused))
        study = better
        if found[0].plan == best[0].plan:
            break
    return study


def _is_better(study: Study[MixedPrecisionConfig], found: Trial, before: Trial) -> bool:
    """Return whether a trial is at least as good as another: of less error within a budget, else no dearer."""
    if study.budgets:
        return found.met >= before.met and study.error_of(found) < study.error_of(before)
    return study.cost.total(found.plan) <= study.cost.total(before.plan)


def _reconstructed(
    study: Study[MixedPrecisionConfig], plan: PrecisionPlan, on: Runner
) -> Study[MixedPrecisionConfig] | None:
    """Return the study with weights that were chosen for a plan, and with what the plan scores now.

    None where they do not help on held-out calibration samples.
    """
    trial = CalibrationTrial.of(study.job, study.layers, on)
    told, weights = trial.reconstruction(study.recipe, plan, None, trial.l2(study.recipe, plan))
    watcher().noted(improvement_sentence(told))
    if not told.kept:
        return None
    found = study.with_weights(weights, told)
    PlanEvaluator(found, on).evaluate(plan)
    return found
