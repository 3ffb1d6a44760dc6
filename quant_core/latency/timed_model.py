"""What a model is timed with: its layers, a batch of samples, and plans with random precisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.latency.mixes import mixes
from quant_core.latency.neighbours import neighbours_of
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.layers import Layer, layers_from_table
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.quantizer import Quantizer
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.storage.references import Reference
from quant_core.storage.schemas import TIMES
from quant_core.storage.tables import with_facts

__all__ = ["TimedModel"]


@dataclass(frozen=True)
class TimedModel:
    """A model, and all that its times are measured on."""

    quantizer: Quantizer
    """Makes the scales and codes of its plans."""
    layers: Sequence[Layer]
    """Its layers."""
    batch: Batch
    """What it is run on."""
    uniform: Mapping[str, PrecisionPlan]
    """By precision, the plan with all layers at it."""
    mixes: Sequence[PrecisionPlan]
    """Plans with random precisions."""

    @classmethod
    def of(
        cls, recipe: QuantizationRecipe, data: Reference, precisions: Sequence[str], batch_size: int, machine: Machine
    ) -> TimedModel:
        """Choose what is timed: the first batch of the data, and mixes of the precisions."""
        quantizer, layers = quantizer_of(recipe, machine), layers_from_table(recipe.layers)
        batch = next(batches(quantizer.graph, step_data(quantizer.graph, data, machine.cache), batch_size))
        names, parsed = [layer.name for layer in layers], [Precision.parse(precision) for precision in precisions]
        uniform = {text: PrecisionPlan.uniform(names, one) for text, one in zip(precisions, parsed, strict=True)}
        return cls(quantizer, layers, batch, uniform, mixes(names, parsed))

    def table(self, rows: Iterable[Mapping[str, object]]) -> pa.Table:
        """Return the times as a table (schema TIMES) that says which layers are neighbours."""
        neighbours = neighbours_of(self.quantizer.topology, self.layers)
        pairs = [[one.first, one.second, one.relation, one.elements] for one in neighbours]
        return with_facts(pa.Table.from_pylist(list(rows), schema=TIMES), neighbours=pairs)
