"""Makes the weights of the best plan make up for each other, and goes on from what that leaves of the target.

What weights lose depends on what the layers before them lose, so those that were chosen for one precision of all layers
give a mix little. Here they are chosen for the mix itself (see `weight_reconstruction`). Its error falls, by a fourth
to a half in 4-bit mixes, and more layers may be narrowed; then those of the plan that this leads to are chosen anew.
"""

from __future__ import annotations

from collections.abc import Collection
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
_LEAST_SHARE = 0.25
"""Share of an error that new weights are taken to leave, at least: counted in classes it may be none by chance."""


def reconstructed_search(
    study: Study[MixedPrecisionConfig], ranking: pa.Table, on: Runner
) -> Study[MixedPrecisionConfig]:
    """Reconstruct the weights of the best plan and search on, as long as a better plan may come of it.

    What new weights leave of one plan's error they may leave of another's: cheaper plans that missed the target by no
    more than that are tried, too.
    """
    share, tried = 1.0, set[PrecisionPlan]()
    for _ in range(_ROUNDS):
        before = _promising(study, share, tried)
        if before is None:
            break
        tried.add(before.plan)
        better = _reconstructed(study, before.plan, on)
        if better is None:
            continue
        share = _share_left(study, before, better.trials[-1])
        if is_open(better):
            go_on(PlanEvaluator(better, on), ranking)
        found = better.best_first()[:1]
        if found and _is_better(study, found[0], study.best_first()[0]):
            study = better
        else:
            unused = better.improvements[-1].model_copy(update={"kept": False})
            study = replace(study, improvements=(*study.improvements, unused))
    return study


def _promising(study: Study[MixedPrecisionConfig], share: float, tried: Collection[PrecisionPlan]) -> Trial | None:
    """Return the cheapest trial that would meet the target with a share of its error; None if all such were tried."""
    best = study.best_first()[:1]
    if not best:
        return None
    cheaper = [] if study.budgets else [one for one in study.trials if _costs_less(study, one, best[0])]
    near = [one for one in cheaper if study.error_of(one) * share <= study.error_at_limit]
    in_order = [*sorted(near, key=lambda one: study.cost.total(one.plan)), *best]
    return next((one for one in in_order if one.plan not in tried), None)


def _costs_less(study: Study[MixedPrecisionConfig], one: Trial, other: Trial) -> bool:
    return study.cost.total(one.plan) < study.cost.total(other.plan)


def _share_left(study: Study[MixedPrecisionConfig], before: Trial, after: Trial) -> float:
    """Return what new weights left of a plan's error."""
    errors = study.error_of(before), study.error_of(after)
    return min(max(errors[1] / errors[0], _LEAST_SHARE), 1.0) if errors[0] > 0 else 1.0


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
