"""How much each tensor that might stay in float changes the model's output where it alone is quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.precision import PrecisionPlan
from quant_core.probing.probe import Measurement, variant_losses
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.scoring.sampling import Samples
from quant_core.storage.schemas import PROBES

__all__ = ["tensor_sensitivity", "tensor_shards"]

_GROUPS_A_SHARD = 64


def tensor_shards(groups: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """Split groups of tensors into runs of consecutive ones."""
    listed = [list(group) for group in groups]
    return [listed[first : first + _GROUPS_A_SHARD] for first in range(0, len(listed), _GROUPS_A_SHARD)]


def tensor_sensitivity(
    recipe: QuantizationRecipe,
    samples: Samples,
    shard: Sequence[Sequence[str]],
    plan: Mapping[str, str],
    tensors: Mapping[str, str],
    loss: str,
    output: int | str,
    batch_size: int | None,
    machine: Machine,
) -> pa.Table:
    """Measure the loss of every sample for each group of tensors that alone is quantized at the wide precision.

    The loss is against the output of a plan that leaves all of `tensors` in float. In the result (schema PROBES) a row
    has a group's first tensor in the place of a layer.

    Args:
        recipe: what the numbers follow from.
        samples: those to measure on.
        shard: groups of tensors, each quantized alone.
        plan: precisions by layer.
        tensors: types of single tensors: float32 for all that may stay in float.
        loss: a name in LOSSES.
        output: the compared outputs: index, name or `all`.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads, cache and memory.

    """
    quantizer, start = quantizer_of(recipe, machine), PrecisionPlan.from_dict(plan, tensors)
    variants = tuple(
        replace(start, tensors=tuple(one for one in start.tensors if one[0] not in group)) for group in shard
    )
    of = Measurement(samples, loss, output, batch_size)
    losses, seconds = variant_losses(quantizer, start, variants, frozenset(), recipe.providers, of, machine)
    columns = {
        "layer": [group[0] for group in shard],
        "precision": [str(quantizer.config.wide)] * len(shard),
        "losses": losses,
        "seconds": seconds,
    }
    return pa.Table.from_pydict(columns, schema=PROBES)
