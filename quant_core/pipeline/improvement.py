"""Tries what makes layers better at equal bits, and keeps what helps on calibration samples that are held out.

First the spread of activations is moved into weights (see `migration`), with factors for each precision of 8-bit
activations in turn; then the weights of each precision are reconstructed (see `weight_reconstruction`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from quant_core.config import RunConfig, SearchConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.improvement.weight_reconstruction import has_free_codes
from quant_core.manifest import Improvement
from quant_core.pipeline.calibration_stages import histograms, rounded_weights
from quant_core.pipeline.calibration_trial import CalibrationTrial
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import MIGRATE
from quant_core.precision import Precision
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.report.sentences.improvements import improvement_sentence
from quant_core.storage.tables import facts

__all__ = ["Improved", "improved"]


@dataclass(frozen=True)
class Improved:
    """What numbers follow from, once what helps is in it."""

    recipe: QuantizationRecipe
    """Layers, histograms and weights."""
    tried: tuple[Improvement, ...] = ()
    """What was tried, and what it gave."""


def improved(
    job: QuantizationJob[RunConfig],
    recipe: QuantizationRecipe,
    ladder: Sequence[Precision],
    lifts: Sequence[Precision],
    on: Runner,
) -> Improved:
    """Try everything on every precision of a ladder, where that is asked for.

    `lifts` are precisions beside it, above wide, whose weights are only rounded again.
    """
    wanted = [one for one in dict.fromkeys(ladder) if has_free_codes(one, job.config.quantization())]
    if job.config.improve == "none":
        return Improved(recipe)
    _tell_of_what_is_left(set(ladder) - set(wanted), job.config)
    if not wanted:
        return Improved(recipe)
    trial = CalibrationTrial.of(job, recipe.layers, on)
    scores = {precision: trial.l2(recipe, trial.uniform(recipe, precision)) for precision in wanted}
    found = [
        _Candidate.of(trial, recipe, scores, precision, (*lifts, *ladder))
        for precision in (wanted if _may_migrate(job) else ())
        if not precision.activations.is_float and precision.activations.bits == 8
    ]
    best = min((one for one in found if one is not None), key=lambda one: one.change, default=None)
    tried = []
    if best is not None:
        tried.append(best.told)
        if best.told.kept:
            recipe, scores = best.recipe, best.scores
    rebuilt = [trial.reconstruction(recipe, trial.uniform(recipe, one), str(one), scores[one]) for one in wanted]
    tried += [told for told, _ in rebuilt]
    for told in tried:
        watcher().noted(improvement_sentence(told))
    kept = (table for told, table in rebuilt if told.kept)
    return Improved(replace(recipe, weights=(*recipe.weights, *kept)), tuple(tried))


def _may_migrate(job: QuantizationJob[RunConfig]) -> bool:
    """Return whether the model may get operators: none that are candidates, nor any that a later `pick` has not got.

    A plan that names tensors may name those that a layer would no longer read.
    """
    config = job.config
    keeps_frontier = isinstance(config, SearchConfig) and config.frontier
    return config.candidates == "layers" and not keeps_frontier and job.assignment is None


def _tell_of_what_is_left(precisions: Iterable[Precision], config: RunConfig) -> None:
    """Report the precisions that are not improved, and why."""
    names = ", ".join(sorted(str(one) for one in precisions if not one.is_float))
    if names:
        watcher().noted(
            f"improve leaves {names} alone: weights have more than 8 bits, or codes that {config.runtime} keeps small "
            "for the sake of its sums (--byte-sums)"
        )


@dataclass(frozen=True)
class _Candidate:
    """The model with factors for a precision."""

    recipe: QuantizationRecipe
    scores: dict[Precision, float]
    change: float
    """The mean logarithm, over precisions, of what L2 is multiplied by; infinite where one of them is spoilt."""
    told: Improvement

    @classmethod
    def of(
        cls,
        trial: CalibrationTrial,
        recipe: QuantizationRecipe,
        before: Mapping[Precision, float],
        precision: Precision,
        precisions: Iterable[Precision],
    ) -> _Candidate | None:
        """Measure factors for a precision on all precisions; None where no tensor has any."""
        job, on = trial.job, trial.on
        layers = on.run(
            MIGRATE,
            layers=recipe.layers,
            data=job.calibration,
            precision=str(precision),
            batch_size=job.config.batch_size,
        )
        if not facts(layers)["migrated"]:
            return None
        weights = rounded_weights(job, layers, precisions, on)
        made = replace(recipe, layers=layers, calibration=histograms(job, layers, on), weights=weights)
        scores = {one: trial.l2(made, trial.uniform(made, one)) for one in before}
        changes = [_logarithm(scores[one]) - _logarithm(before[one]) for one in before]
        # What is good for one precision may spoil another, and the model is the same for all of them.
        change = sum(changes) / len(changes) if max(changes) <= math.log(_WORST) else math.inf
        touched = len(facts(layers)["migrated_layers"]), layers.num_rows
        l2 = before[precision], scores[precision]
        told = trial.improvement("migration", str(precision), touched, l2, change < 0)
        return cls(made, scores, change, told)


def _logarithm(l2: float) -> float:
    return math.log(max(l2, _TINY))


_TINY = 1e-30
_WORST = 1.05
"""By how much the L2 of one precision may grow where factors lower that of others."""
