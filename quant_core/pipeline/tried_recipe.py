"""A recipe measured on held-out calibration samples, and those that are made of it to make layers better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from quant_core.manifest import Improvement
from quant_core.manifest.improvement import Method
from quant_core.model.layers import layers_from_table
from quant_core.pipeline.calibration_stages import histograms, rounded_weights
from quant_core.pipeline.calibration_trial import CalibrationTrial
from quant_core.pipeline.stages import MIGRATE
from quant_core.precision import Precision
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.storage.tables import facts

__all__ = ["TriedRecipe"]

_TINY = 1e-30
_WORST = 1.05
"""By how much the L2 of one precision may grow where that of others shrinks."""
_WORTH_OPERATORS = 0.99
"""What L2 is multiplied by, at most, where that is worth operators that the model had not."""


@dataclass(frozen=True)
class TriedRecipe:
    """A recipe with its L2 at each precision."""

    trial: CalibrationTrial
    """What it is measured on."""
    recipe: QuantizationRecipe
    """What numbers follow from."""
    rungs: tuple[Precision, ...]
    """All precisions whose weights are rounded."""
    scores: Mapping[Precision, float]
    """L2 of the model with all layers at a precision, for each that may become better."""
    change: float = 0.0
    """The mean logarithm, over precisions, of what L2 is multiplied by; infinite where one of them is spoilt."""
    told: tuple[Improvement, ...] = ()
    """What was done to it, and what that gave."""

    @property
    def is_better(self) -> bool:
        """Whether what was done to it is worth it."""
        return all(improvement.kept for improvement in self.told)

    @classmethod
    def of(
        cls,
        trial: CalibrationTrial,
        recipe: QuantizationRecipe,
        precisions: Iterable[Precision],
        rungs: Iterable[Precision],
    ) -> TriedRecipe:
        """Measure a recipe at some of the rungs."""
        return cls(
            trial, recipe, tuple(rungs), {one: trial.l2(recipe, trial.uniform(recipe, one)) for one in precisions}
        )

    def with_zero_points(self, precision: Precision) -> TriedRecipe:
        """Choose zero points of signed activation types; what that gives is reported for a precision."""
        recipe = replace(self.recipe, config=self.recipe.config.model_copy(update={"symmetric": False}))
        quantizer = quantizer_of(recipe, self.trial.on.machine)
        dtype, layers = precision.activations, layers_from_table(recipe.layers)
        read = [[name for name in layer.activations if name in quantizer.topology.quantizable] for layer in layers]
        moved = [any(quantizer.activation(name, dtype).zero_point.any() for name in names) for names in read]
        return self._with(recipe, "zero points", precision, (sum(moved), len(layers)))

    def migrated(self, precision: Precision) -> TriedRecipe | None:
        """Move the spread of activations into weights, with factors for a precision; None where no tensor has any."""
        job, on = self.trial.job, self.trial.on
        layers = on.run(
            MIGRATE,
            layers=self.recipe.layers,
            data=job.calibration,
            precision=str(precision),
            symmetric=self.recipe.config.is_symmetric,
            batch_size=job.config.batch_size,
        )
        if not facts(layers)["migrated"]:
            return None
        weights = rounded_weights(job, layers, self.rungs, on, self.trial.left_out)
        recipe = replace(self.recipe, layers=layers, calibration=histograms(job, layers, on), weights=weights)
        changed = len(facts(layers)["migrated_layers"]), layers.num_rows
        return self._with(recipe, "migration", precision, changed, _WORTH_OPERATORS)

    def _with(
        self,
        recipe: QuantizationRecipe,
        method: Method,
        precision: Precision,
        layers: tuple[int, int],
        worth_it: float = 1.0,
    ) -> TriedRecipe:
        """Measure a recipe that was made of this one, and report what that gave at a precision.

        It is worth it where L2 is multiplied by less than `worth_it`, on average over precisions.
        """
        trial = self.trial
        scores = {one: trial.l2(recipe, trial.uniform(recipe, one)) for one in self.scores}
        changes = [_logarithm(scores[one]) - _logarithm(self.scores[one]) for one in scores]
        # What is good for one precision may spoil another, and the model is the same for all of them.
        change = sum(changes) / len(changes) if max(changes) <= math.log(_WORST) else math.inf
        l2 = self.scores[precision], scores[precision]
        told = trial.improvement(method, str(precision), layers, l2, change < math.log(worth_it))
        return replace(self, recipe=recipe, scores=scores, change=change, told=(told,))


def _logarithm(l2: float) -> float:
    return math.log(max(l2, _TINY))
