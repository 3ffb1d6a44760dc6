"""Tries what makes layers better at equal bits, and keeps what helps on calibration samples that are held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.improvement.weight_reconstruction import held_out_samples
from quant_core.manifest import Improvement
from quant_core.model.layers import layers_from_table
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import BASELINE, EVALUATE, RECONSTRUCT
from quant_core.precision import DataType, Precision, PrecisionPlan
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.report.improvements import improvement_sentence
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.metrics import scores_of
from quant_core.scoring.sampling import Samples, sample_shards
from quant_core.storage.tables import facts

__all__ = ["improved_weights"]


def improved_weights(
    job: QuantizationJob[RunConfig],
    layers: pa.Table,
    calibration: pa.Table,
    weights: Sequence[pa.Table],
    precisions: Iterable[Precision],
    on: Runner,
) -> tuple[Sequence[pa.Table], tuple[Improvement, ...]]:
    """Reconstruct the weights of each precision, where that is asked for, and keep those that make the model better.

    Args:
        job: what the run is asked to do.
        layers: schema LAYERS.
        calibration: schema CALIBRATION.
        weights: those rounded so far, tables of schema WEIGHTS.
        precisions: those that layers may have.
        on: what calls the stages.

    Returns the weights with those that are kept behind, and what was tried.

    """
    wanted = [one for one in dict.fromkeys(precisions) if _has_free_codes(one, job.config)]
    if job.config.improve == "none" or not wanted:
        return weights, ()
    recipe = QuantizationRecipe(layers, calibration, job.config.quantization(), tuple(weights), job.config.providers)
    trial = _Trial(job, recipe, _float_outputs(job, layers, on), on)
    tried = [trial.reconstruction(precision) for precision in wanted]
    for found, _ in tried:
        watcher().noted(improvement_sentence(found))
    return [*weights, *(table for found, table in tried if found.kept)], tuple(found for found, _ in tried)


def _has_free_codes(precision: Precision, config: RunConfig) -> bool:
    """Return whether weights are codes of up to 8 bits, none of which the runtime forbids for the sake of its sums."""
    if precision.weights.is_float or precision.weights.bits > 8:
        return False
    in_bytes = precision.activations.bits == 8 and precision.weights is DataType.INT8
    limited = config.quantization().limits_byte_sums and profile_of(config.runtime).keeps_byte_sums_in_range
    return not (in_bytes and limited)


def _float_outputs(job: QuantizationJob[RunConfig], layers: pa.Table, on: Runner) -> pa.Table:
    """Return the outputs of the float model on the calibration data."""
    return on.run(
        BASELINE,
        step=RECONSTRUCT.name,
        model=job.model,
        layers=layers,
        data=job.calibration,
        output=job.config.output,
        function=None,
        batch_size=job.config.batch_size,
    )


@dataclass(frozen=True)
class _Trial:
    """What is tried is measured on the whole model, on held-out calibration samples."""

    job: QuantizationJob[RunConfig]
    recipe: QuantizationRecipe
    baseline: pa.Table
    on: Runner

    def reconstruction(self, precision: Precision) -> tuple[Improvement, pa.Table]:
        """Reconstruct the weights of a precision; what that gives, and the weights."""
        config = self.job.config
        table = self.on.run(
            RECONSTRUCT,
            recipe=self.recipe,
            data=self.job.calibration,
            precision=str(precision),
            batch_size=config.batch_size,
        )
        weights = self.recipe.weights
        before = self._l2(self.recipe, precision)
        after = self._l2(replace(self.recipe, weights=(*weights, table)), precision)
        found = Improvement(
            method="reconstruction",
            precision=str(precision),
            layers=table.num_rows,
            of=len(facts(table)["squared_errors"]),
            before=before,
            after=after,
            kept=after < before,
            samples=held_out_samples(self.baseline.num_rows),
        )
        return found, table

    def _l2(self, recipe: QuantizationRecipe, precision: Precision) -> float:
        """Return the L2 of the model with all layers at a precision."""
        plan = PrecisionPlan.uniform([layer.name for layer in layers_from_table(recipe.layers)], precision)
        shards = sample_shards(0, held_out_samples(self.baseline.num_rows))
        tables = self.on.fan_out(
            EVALUATE,
            [{"samples": Samples(self.job.calibration, *shard)} for shard in shards],
            step=RECONSTRUCT.name,
            title=RECONSTRUCT.name,
            recipe=recipe,
            baseline=self.baseline,
            plan=plan.as_dict(),
            tensors=plan.tensor_types(),
            function=None,
            batch_size=self.job.config.batch_size,
        )
        return scores_of(pa.concat_tables(tables))["l2"]
