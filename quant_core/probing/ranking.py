"""The order in which layers are narrowed, and what each narrowing saves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.other_products import OtherProduct
from quant_core.precision import Precision, PrecisionPlan
from quant_core.probing.racing import loss_estimates, losses_by_probe
from quant_core.storage.schemas import SENSITIVITY

__all__ = ["macs_share", "rank", "ranked_losses"]


_NO_BLOCKS: Mapping[str, Sequence[str]] = {}


def ranked_losses(
    layers: pa.Table,
    probes: Sequence[pa.Table],
    start: str,
    machine: Machine,
    blocks: Mapping[str, Sequence[str]] | None = None,
) -> pa.Table:
    """Rank all probes as `rank` does; a stage of the pipeline, with the precision as text."""
    return rank(layers, probes, Precision.parse(start), blocks or {})


def rank(
    layers: pa.Table, probes: Sequence[pa.Table], start: Precision, blocks: Mapping[str, Sequence[str]] = _NO_BLOCKS
) -> pa.Table:
    """Sort all probes by ascending mean loss; ties are in the order of the graph (schema SENSITIVITY).

    `probes` are tables of schema PROBES; a probe in several of them was given more samples in later rounds. What a
    narrowing saves is counted from `start`, the precision of the plan that the search starts from; of a layer that
    stands for a block, it is what the whole block saves.
    """
    by_name = {layer.name: layer for layer in layers_from_table(layers)}
    position = {name: index for index, name in enumerate(by_name)}
    seconds = Counter[tuple[str, str]]()
    for table in probes:
        for name, precision, took in zip(*(table.column(key).to_pylist() for key in _TIMED), strict=True):
            seconds[name, precision] += took
    rows: list[dict[str, Any]] = []
    for (name, written), estimate in loss_estimates(losses_by_probe(probes)).items():
        precision = Precision.parse(written)
        moved = [by_name[one] for one in blocks.get(name, [name])]
        rows.append(
            {
                "layer": name,
                "precision": written,
                "loss": estimate.mean,
                "standard_error": estimate.standard_error,
                "samples": estimate.samples,
                "seconds": seconds[name, written],
                "bops_saved": sum(layer.bit_operations(start) - layer.bit_operations(precision) for layer in moved),
                "bytes_saved": sum(
                    layer.weight_elements * (start.weights.bits - precision.weights.bits) // 8 for layer in moved
                ),
            }
        )
    rows.sort(key=lambda row: (_last_if_nan(row["loss"]), position[row["layer"]], row["bops_saved"]))
    return pa.Table.from_pylist(rows, schema=SENSITIVITY)


_TIMED = ("layer", "precision", "seconds")


def _last_if_nan(loss: float) -> float:
    # NaN compares with nothing: one would leave the whole order to chance.
    return math.inf if math.isnan(loss) else loss


def macs_share(
    layers: Sequence[Layer], plan: PrecisionPlan, wide: Precision, others: Sequence[OtherProduct] = ()
) -> float:
    """The share of all multiply-accumulates, those of no layer among them, that are in narrowed layers."""
    narrowed = set(plan.narrowed_from(wide))
    total = sum(layer.macs for layer in layers) + sum(other.macs or 0 for other in others)
    return sum(layer.macs for layer in layers if layer.name in narrowed) / total if total else 0.0
