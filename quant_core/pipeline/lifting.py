"""Opens the rungs above wide where the wide model misses its target.

The search narrows from a plan that meets the target. Where the wide plan does not, it begins higher up: with all
candidates at the first precision above wide at which they meet the target. From there it comes down the whole ladder,
through wide to the narrow precisions, so that only the layers that have to stay above wide do.
"""

from __future__ import annotations

from dataclasses import replace

from quant_core.config import Config, MixedPrecisionConfig, RunConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.pipeline.costs import cost_models
from quant_core.pipeline.plan_evaluator import PlanEvaluator
from quant_core.pipeline.study import Study
from quant_core.precision import DataType, Precision
from quant_core.runtimes.registry import profile_of

__all__ = ["lifted", "rungs_above"]


def lifted(study: Study[Config], on: Runner) -> Study[Config]:
    """Return the study with as many rungs above wide as it takes to meet the target.

    It is returned as it is where the wide plan meets the target, where a budget or a number of layers says how narrow
    to go, and where no rung is high enough.
    """
    config = study.job.config
    if study.wide.met or not study.candidates or not isinstance(config, MixedPrecisionConfig):
        return study
    if study.budget is not None or config.most_layers is not None:
        return study
    evaluator, tried, met = PlanEvaluator(study, on), list[Precision](), False
    for precision in rungs_above(config):
        watcher().noted(f"the wide model misses the target: all layers are tried at {precision}")
        tried.append(precision)
        met = evaluator.evaluate(study.lifted_to(precision)).met
        if met:
            break
    # Plans that were tried have a cost, whether they are of use or not.
    costs = cost_models(study.job, study.layers, study.calibration, (*config.ladder, *tried), on)
    return replace(study, above=tuple(tried) if met else (), costs=costs)


def rungs_above(config: RunConfig) -> tuple[Precision, ...]:
    """Return the precisions that a search may lift layers to, the nearest to wide first.

    Where the configuration does not say, these are 16-bit activations beside the wide weights, 16-bit weights as well,
    and float32, as far as they are above wide and the runtime has them.
    """
    if not isinstance(config, MixedPrecisionConfig):
        return ()
    if config.lift is not None:
        return config.lift
    wide, profile = config.wide, profile_of(config.runtime)
    if wide.is_float or config.device_costs is not None:  # such a file has prices for the ladder alone
        return ()
    activations = DataType.INT16 if wide.activations.signed else DataType.UINT16
    sixteen_bits = [Precision(activations, wide.weights), Precision(activations, DataType.INT16)]
    float32 = Precision(DataType.FLOAT32, DataType.FLOAT32)
    above = [one for one in (*sixteen_bits, float32) if wide.narrower_than(one) and not profile.why_not(one)]
    return tuple(one for one in above if config.format != "qoperator" or not one.why_not_integer)
