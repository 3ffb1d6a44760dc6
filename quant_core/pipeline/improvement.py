"""Tries what makes layers better at equal bits, and keeps what helps on calibration samples that are held out.

1. Signed activation types get zero points, where neither the user nor the runtime wants them to be 0.
2. The spread of activations is moved into weights (see `migration`), with factors for each precision of 8-bit
   activations in turn.
3. The weights of each precision are reconstructed (see `weight_reconstruction`).

Nothing that is tried has seen the samples that are held out, not the rounding of weights either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from quant_core.config import RunConfig, SearchConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.improvement.weight_reconstruction import has_free_codes
from quant_core.manifest import Improvement
from quant_core.pipeline.calibration_stages import rounded_weights
from quant_core.pipeline.calibration_trial import CalibrationTrial
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.tried_recipe import TriedRecipe
from quant_core.precision import Precision
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.report.sentences.improvements import improvement_sentence
from quant_core.runtimes.registry import profile_of

__all__ = ["Improved", "improved"]


@dataclass(frozen=True)
class Improved:
    """What numbers follow from, once what helps is in it."""

    recipe: QuantizationRecipe
    """Layers, histograms, weights, and how ranges are chosen."""
    tried: tuple[Improvement, ...] = ()
    """What was tried, and what it gave."""


def improved(
    job: QuantizationJob[RunConfig],
    recipe: QuantizationRecipe,
    ladder: Sequence[Precision],
    lifts: Sequence[Precision],
    on: Runner,
) -> Improved:
    """Round the weights of a recipe, and try everything on every precision of a ladder, where that is asked for.

    `lifts` are precisions beside it, above wide, whose weights are only rounded.
    """
    rungs = (*lifts, *ladder)
    wanted = [one for one in dict.fromkeys(ladder) if has_free_codes(one, job.config.quantization())]
    if job.config.improve == "auto":
        _tell_of_what_is_left(set(ladder) - set(wanted), job.config)
    if job.config.improve == "none" or not wanted:
        return Improved(replace(recipe, weights=rounded_weights(job, recipe.layers, rungs, on)))
    trial = CalibrationTrial.of(job, recipe.layers, on)
    recipe = replace(recipe, weights=rounded_weights(job, recipe.layers, rungs, on, trial.left_out))
    best, tried = _better_recipe(TriedRecipe.of(trial, recipe, wanted, rungs), job)
    recipe, rebuilt = _reconstructed(best)
    for improvement in (*tried, *rebuilt):
        watcher().noted(improvement_sentence(improvement))
    return Improved(recipe, (*tried, *rebuilt))


def _better_recipe(best: TriedRecipe, job: QuantizationJob[RunConfig]) -> tuple[TriedRecipe, tuple[Improvement, ...]]:
    """Return a recipe with zero points and with factors, each if it helps, and what they gave."""
    tried: tuple[Improvement, ...] = ()
    for change in _with_zero_points, _with_factors:
        found = change(best, job)
        if found is not None:
            tried += found.told
            best = found if found.is_better else best
    return best, tried


def _reconstructed(best: TriedRecipe) -> tuple[QuantizationRecipe, tuple[Improvement, ...]]:
    """Return the recipe with the weights of each precision reconstructed, where that helps, and what that gave."""
    recipe, trial = best.recipe, best.trial
    found = [
        trial.reconstruction(recipe, trial.uniform(recipe, precision), str(precision), before)
        for precision, before in best.scores.items()
    ]
    kept = (table for improvement, table in found if improvement.kept)
    return replace(recipe, weights=(*recipe.weights, *kept)), tuple(improvement for improvement, _ in found)


def _with_zero_points(best: TriedRecipe, job: QuantizationJob[RunConfig]) -> TriedRecipe | None:
    """Return a recipe with zero points; None where they have to be 0, or no activations have a signed type."""
    config = job.config
    fixed = config.symmetric is not None or config.has_power_of_two_scales
    signed = [one for one in best.scores if not one.activations.is_float and one.activations.signed]
    if fixed or not signed or profile_of(config.runtime).options.get("symmetric"):
        return None
    return best.with_zero_points(min(signed, key=lambda one: one.activations.bits))


def _with_factors(best: TriedRecipe, job: QuantizationJob[RunConfig]) -> TriedRecipe | None:
    """Return the best recipe with factors for one of the precisions; None where there are none."""
    if not _may_migrate(job):
        return None
    eight_bits = [one for one in best.scores if not one.activations.is_float and one.activations.bits == 8]
    # Factors follow from the types; how many values share a scale hardly changes them.
    each = {(one.activations, one.weights): one for one in reversed(eight_bits)}.values()
    found = [one for precision in each if (one := best.migrated(precision)) is not None]
    return min(found, key=lambda one: one.change, default=None)


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
