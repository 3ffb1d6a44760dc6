"""Measures what is tried to make layers better: on the whole model, on calibration samples that are held out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.execution.runner import Runner
from quant_core.improvement.weight_reconstruction import held_out_numbers, held_out_samples
from quant_core.manifest import Improvement
from quant_core.manifest.improvement import Method
from quant_core.model.layers import layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.calibration_stages import scored_as_calibrated
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import BASELINE, EVALUATE, RECONSTRUCT
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.scoring.metrics import scores_of
from quant_core.scoring.sampling import Samples, sample_shards
from quant_core.storage.tables import facts

__all__ = ["CalibrationTrial"]


@dataclass(frozen=True)
class CalibrationTrial:
    """What models are measured on."""

    job: QuantizationJob[RunConfig]
    """What the run is asked to do."""
    baseline: pa.Table
    """Outputs of the float model on the calibration data."""
    on: Runner
    """What calls the stages."""

    @classmethod
    def of(cls, job: QuantizationJob[RunConfig], layers: pa.Table, on: Runner) -> CalibrationTrial:
        """Run the float model, of which these are the layers (schema LAYERS), on the calibration data."""
        baseline = on.run(
            BASELINE,
            step=RECONSTRUCT.name,
            model=job.model,
            layers=layers,
            data=job.calibration,
            output=job.config.output,
            function=None,
            batch_size=job.config.batch_size,
            as_calibrated=scored_as_calibrated(job, prepared_graph(layers, on.machine.cache), job.evaluation),
        )
        return cls(job, baseline, on)

    @property
    def held_out(self) -> int:
        """Samples that are held out."""
        return held_out_samples(self.baseline.num_rows)

    @property
    def left_out(self) -> tuple[int, ...]:
        """Their numbers."""
        return held_out_numbers(self.baseline.num_rows)

    def uniform(self, recipe: QuantizationRecipe, precision: Precision) -> PrecisionPlan:
        """Return the plan with all layers at a precision."""
        return PrecisionPlan.uniform([layer.name for layer in layers_from_table(recipe.layers)], precision)

    def improvement(
        self,
        method: Method,
        precision: str | None,
        layers: tuple[int, int],
        l2: tuple[float, float],
        kept: bool,
    ) -> Improvement:
        """Return the record of what was tried at a precision, or with None for a plan.

        `layers` are those that are better and all, `l2` is that before and after.
        """
        return Improvement(
            method=method,
            precision=precision,
            layers=layers[0],
            of=layers[1],
            before=l2[0],
            after=l2[1],
            kept=kept,
            samples=self.held_out,
        )

    def reconstruction(
        self, recipe: QuantizationRecipe, plan: PrecisionPlan, precision: str | None, before: float
    ) -> tuple[Improvement, pa.Table]:
        """Reconstruct the weights of a plan, of which L2 was `before`; what that gives, and the weights.

        `precision` is that of all its layers; None: they differ.
        """
        table = self.on.run(
            RECONSTRUCT,
            recipe=recipe,
            data=self.job.calibration,
            plan=plan.as_dict(),
            tensors=plan.tensor_types(),
            batch_size=self.job.config.batch_size,
        )
        after = self.l2(replace(recipe, weights=(*recipe.weights, table)), plan)
        layers = table.num_rows, len(facts(table)["squared_errors"])
        return self.improvement("reconstruction", precision, layers, (before, after), after < before), table

    def l2(self, recipe: QuantizationRecipe, plan: PrecisionPlan) -> float:
        """Return the L2 of the model of a plan."""
        tables = self.on.fan_out(
            EVALUATE,
            [{"samples": Samples(self.job.calibration, *shard)} for shard in sample_shards(0, self.held_out)],
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
