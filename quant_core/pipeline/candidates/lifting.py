"""Opens the rungs above wide where the wide model misses its target, and leaves tensors in float.

The search narrows from a plan that meets the target. Where the wide plan does not, it begins higher up: with a few
tensors in float, with all candidates at a precision above wide, or both, whichever meets the target first. From there
it comes down the whole ladder, through wide to the narrow precisions, so that only the layers that have to stay above
wide do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from quant_core.config import Config, MixedPrecisionConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.manifest import FloatTensor
from quant_core.pipeline.candidates.float_tensors import fewest_tensors, harmful_tensors, tensor_groups
from quant_core.pipeline.candidates.rungs import rungs_above
from quant_core.pipeline.costs import cost_models
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.study import Study
from quant_core.precision import Precision

__all__ = ["lifted"]


def lifted(study: Study[Config], on: Runner) -> Study[Config]:
    """Return the study with the rungs above wide and the tensors in float that it takes to meet the target.

    At wide, and then at each rung above it, a few tensors are left in float if that is enough; at the highest rung as
    many as it takes. The study is returned as it is where the wide plan meets the target and where a budget says how
    narrow to go; it has no rungs where none is high enough.
    """
    config = study.job.config
    if study.wide.met or study.budgets or not isinstance(config, MixedPrecisionConfig):
        return study
    study = replace(study, above=(), float_tensors=())
    searched = cast("Study[MixedPrecisionConfig]", study)
    evaluator, groups = PlanEvaluator(searched, on), tensor_groups(searched, on)
    rungs = rungs_above(config) if study.candidates and config.most_layers is None else ()
    for place, precision in enumerate((config.wide, *rungs)):
        if place:
            watcher().noted(f"the wide model misses the target: all layers are tried at {precision}")
        met = evaluator.evaluate(study.lifted_to(precision)).met if place else False
        tensors = () if met else fewest_tensors(evaluator, groups, precision, few=place < len(rungs))
        if met or tensors:
            return _begun_at(study, rungs[:place], tensors, rungs[:place], on)
    tensors = harmful_tensors(evaluator, groups, (config.wide, *rungs)[-1])
    return _begun_at(study, (), tensors, rungs, on)


def _begun_at(
    study: Study[Config],
    above: tuple[Precision, ...],
    tensors: tuple[FloatTensor, ...],
    tried: tuple[Precision, ...],
    on: Runner,
) -> Study[Config]:
    """Return the study with rungs above wide and tensors in float; plans at all rungs that were `tried` have a cost."""
    study = replace(study, above=above, float_tensors=tensors)
    if not tried:
        return study
    precisions = (*study.job.config.ladder, *tried)
    return replace(study, costs=cost_models(study.job, study.layers, study.calibration, precisions, on))
