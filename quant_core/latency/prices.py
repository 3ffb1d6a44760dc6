"""From times to the price list of the search: what each layer at each precision adds to the time of a sample."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from quant_core.errors import InputError
from quant_core.latency.boundaries import with_boundaries
from quant_core.latency.device_costs import DeviceCosts
from quant_core.latency.neighbours import Neighbours
from quant_core.model.layers import Layer
from quant_core.precision import Precision, PrecisionPlan
from quant_core.search.cost import CostModel
from quant_core.storage.tables import facts

__all__ = ["LATENCY", "device_cost", "measured_cost"]

LATENCY = "latency"
"""The name of the cost."""
_UNIT = "ms"


def measured_cost(times: pa.Table) -> CostModel:
    """Prices from times of this machine (schema TIMES).

    Alone, layers take other times than side by side: values go through other caches and layouts. So the times of a
    precision's layers are scaled to add up to what the whole model takes at it, less what is no layer's. That is
    taken to be the least that layers leave of the whole model at any precision. What it takes to go from one precision
    to another between two neighbours is fit from the times of mixes.
    """
    models: dict[str, float] = {}
    alone: dict[tuple[str, str], float] = {}
    mixes: list[tuple[PrecisionPlan, float]] = []
    for row in times.select(["layer", "precision", "mix", "milliseconds"]).to_pylist():
        if row["mix"] is not None:
            mixes.append((PrecisionPlan.from_dict(json.loads(row["mix"])), row["milliseconds"]))
        elif row["layer"] is None:
            models[row["precision"]] = row["milliseconds"]
        else:
            alone[row["layer"], row["precision"]] = row["milliseconds"]
    sums = {name: sum(taken for (_, precision), taken in alone.items() if precision == name) for name in models}
    fixed = max(min(models[name] - sums[name] for name in models), 0.0)
    scales = {name: (models[name] - fixed) / sums[name] if sums[name] else 1.0 for name in models}
    prices = {
        (layer, Precision.parse(precision)): taken * scales[precision] for (layer, precision), taken in alone.items()
    }
    pairs = [Neighbours(*pair) for pair in facts(times).get("neighbours", [])]
    return with_boundaries(CostModel(LATENCY, _UNIT, prices, fixed), pairs, mixes)


def device_cost(given: DeviceCosts, layers: Sequence[Layer], precisions: Sequence[Precision]) -> CostModel:
    """Prices as the user's device has them; raises InputError when some are missing."""
    wanted = [(layer.name, precision) for layer in layers for precision in precisions]
    missing = [choice for choice in wanted if choice not in given.milliseconds]
    if missing:
        (layer, precision), more = missing[0], len(missing) - 1
        others = f", and {more} more {'row is' if more == 1 else 'rows are'} missing" if more else ""
        raise InputError(f"{given.source}: has no row for layer {layer!r} at {precision}{others}")
    return CostModel(LATENCY, _UNIT, {choice: given.milliseconds[choice] for choice in wanted})
