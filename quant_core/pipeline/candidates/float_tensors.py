"""Finds the few tensors that lose most by being quantized, to leave them in float.

More bits for a layer do not help where small values of a tensor matter beside large ones: the square in front of a
logarithm, a sum in front of a square root. Leaving these in float lifts no layer, and costs nothing that a cost model
counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from quant_core.config import MixedPrecisionConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.manifest import FloatTensor
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import Trial, target_score
from quant_core.pipeline.stages import PROBE_TENSORS
from quant_core.precision import DataType, Precision, PrecisionPlan
from quant_core.probing.racing import losses_by_probe
from quant_core.probing.shards import probe_samples
from quant_core.probing.tensor_probe import tensor_shards
from quant_core.quantization.float_tensors import float_candidates
from quant_core.quantization.recipe import quantizer_of
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.metrics import additive
from quant_core.scoring.sampling import Samples

__all__ = ["Groups", "fewest_tensors", "harmful_tensors", "tensor_groups"]

Groups = Sequence[Sequence[str]]
"""Tensors that may stay in float, those with one scale between them together."""

_FEW = 1 / 4
"""Share of all tensors that may stay in float where layers can be lifted instead."""
_SAMPLES = 8
"""Samples that tensors are probed on: what they lose differs by orders of magnitude."""
_LEFT = 0.1
"""Share of what all tensors lose that may be left, where no number of them meets the target."""


def tensor_groups(study: Study, on: Runner) -> Groups:
    """Return the tensors of a study that may stay in float; none where the user or the runtime will have none."""
    config = study.job.config
    float32 = Precision(DataType.FLOAT32, DataType.FLOAT32)
    if not config.float_tensors or config.wide.is_float or profile_of(config.runtime).why_not(float32):
        return ()
    return float_candidates(quantizer_of(study.recipe, on.machine))


def fewest_tensors(
    evaluator: PlanEvaluator[MixedPrecisionConfig], groups: Groups, precision: Precision, *, few: bool
) -> tuple[FloatTensor, ...]:
    """Return as few tensors as meet the target in float, the most harmful first; none where they do not meet it.

    All candidates are at a precision, at which a plan that quantizes all tensors misses. With `few` no more than a
    quarter of the tensors are returned. That many are evaluated first, for most often they do not suffice; then plans
    with one, and with twice as many each time, then those between.
    """
    study = evaluator.study
    target = study.job.config.target
    if not groups or not target.met_by(_score_in_float(evaluator, groups, precision)):
        return ()
    watcher().noted(f"with layers at {precision} and tensors in float the target is met: the tensors are probed")
    ranked = _ranked(study, groups, precision, evaluator.on)
    most = min(len(ranked), max(int(len(groups) * _FEW), 1)) if few else len(ranked)
    if not _with(evaluator, ranked[:most], precision).met:
        return ()
    below, count = 0, min(1, most)
    while count < most and not _with(evaluator, ranked[:count], precision).met:
        below, count = count, min(2 * count, most)
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if _with(evaluator, ranked[:middle], precision).met else (middle, count)
    return tuple(ranked[:count])


def harmful_tensors(
    evaluator: PlanEvaluator[MixedPrecisionConfig], groups: Groups, precision: Precision
) -> tuple[FloatTensor, ...]:
    """Return the tensors that have nine tenths of what all lose, where all in float would help a good deal.

    They do not meet the target with all candidates at a precision, but come closest. They are evaluated at wide, too,
    where the search begins.
    """
    study = evaluator.study
    if not groups or not _help(evaluator, groups, precision):
        return ()
    kept, left = list[FloatTensor](), 1.0
    for tensor in _ranked(study, groups, precision, evaluator.on):
        if left > _LEFT:
            kept.append(tensor)
            left -= tensor.share or 0.0
    for rung in (study.job.config.wide, precision):
        _with(evaluator, kept, rung)
    return tuple(kept)


def _help(evaluator: PlanEvaluator[MixedPrecisionConfig], groups: Groups, precision: Precision) -> bool:
    """Return whether all tensors in float take away half of what the target is missed by."""
    study, target = evaluator.study, evaluator.study.job.config.target
    plan = study.lifted_to(precision)
    quantized = additive(target.metric, next(trial.score.value for trial in study.trials if trial.plan == plan))
    error = additive(target.metric, _score_in_float(evaluator, groups, precision))
    missing = quantized - additive(target.metric, target.limit or 0.0)
    return quantized - error >= missing / 2 or (math.isnan(quantized) and math.isfinite(error))


def _score_in_float(evaluator: PlanEvaluator[MixedPrecisionConfig], groups: Groups, precision: Precision) -> float:
    """Return the target's metric with all of the tensors in float.

    It is simulated on an eighth of the samples, evenly spread or, where classes are counted, on those whose class may
    change: a few samples in a thousand are what such a target is about. Where plans are scored from their files, this
    one is too.
    """
    study, plan = evaluator.study, _in_float(evaluator.study, groups, precision)
    if study.in_runtime:
        return evaluator.evaluate(plan).score.value
    if evaluator.counts_classes:
        return evaluator.trial(plan).score.value
    scores = evaluator.scores_on_share(plan, 1 / 8, step="baseline")
    return target_score(study.job.config.target, scores, study.baseline).value


def _in_float(study: Study, groups: Groups, precision: Precision) -> PrecisionPlan:
    return study.lifted_to(precision).with_float([name for group in groups for name in group])


def _with(
    evaluator: PlanEvaluator[MixedPrecisionConfig], tensors: Sequence[FloatTensor], precision: Precision
) -> Trial:
    """Evaluate the plan that leaves these tensors in float."""
    plan = replace(evaluator.study, float_tensors=tuple(tensors)).lifted_to(precision)
    return evaluator.evaluate(plan)


def _ranked(study: Study, groups: Groups, precision: Precision, on: Runner) -> list[FloatTensor]:
    """Probe every group, and return those that lose something, the one that loses most first."""
    losses = _mean_losses(study, groups, precision, on)
    total = sum(loss for loss in losses if loss < math.inf)
    order = sorted((place for place, loss in enumerate(losses) if loss), key=lambda place: (-losses[place], place))
    return [
        FloatTensor(
            name=groups[place][0],
            alike=tuple(groups[place][1:]),
            share=losses[place] / total if losses[place] < math.inf else None,
        )
        for place in order
    ]


def _mean_losses(study: Study, groups: Groups, precision: Precision, on: Runner) -> list[float]:
    """Return what each group loses where it alone is quantized; infinite where that is no finite number."""
    config, stop = study.job.config, min(study.baseline.num_rows, _SAMPLES)
    shards, start = tensor_shards(groups), _in_float(study, groups, precision)
    watcher().expects("probe", len(groups) * stop)
    tables = on.fan_out(
        PROBE_TENSORS,
        [
            {"shard": shard, "samples": Samples(study.job.evaluation, first, last)}
            for shard, (first, last) in product(shards, probe_samples(0, stop, len(shards)))
        ],
        recipe=study.recipe,
        plan=start.as_dict(),
        tensors=start.tensor_types(),
        loss="kl" if config.rank == "kl" else "mse",
        output=config.output,
        batch_size=config.batch_size,
    )
    probed = losses_by_probe(tables)
    means = [float(np.mean(probed[group[0], str(config.wide)])) for group in groups]
    return [loss if math.isfinite(loss) else math.inf for loss in means]
