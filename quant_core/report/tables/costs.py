"""What the float, the wide, the shipped and the narrowest model cost."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from quant_core.config.quantization import QuantizationConfig
from quant_core.manifest import Manifest
from quant_core.model.layers import layers_from_table
from quant_core.model.other_products import other_products
from quant_core.precision import Precision, PrecisionPlan
from quant_core.report.text import bytes_text, count_text
from quant_core.runtimes.storage import storage
from quant_core.search.cost import counted_cost

__all__ = ["Cost", "costs"]


@dataclass(frozen=True)
class Cost:
    """What a model costs."""

    name: str
    """Which model."""
    shipped: bool
    """Whether it is the one that is given out."""
    bops: str
    """Bit operations of one sample."""
    bops_share: float
    """Of the wide model's."""
    size: str
    """Bytes of all layers' weights."""
    size_share: float
    """Of the float model's."""


def costs(manifest: Manifest, layers: pa.Table) -> list[Cost]:
    """The wide model, the one that is given out, and the one with all layers as narrow as may be."""
    listed, others = layers_from_table(layers), other_products(layers)
    names = [layer.name for layer in listed]
    wide, *narrow = (Precision.parse(text) for text in (manifest.wide, *manifest.narrow))
    plans = {
        f"all {wide}": PrecisionPlan.uniform(names, wide),
        "mixed, as shipped": manifest.shipped_plan,
        **{f"all {narrowest}": PrecisionPlan.uniform(names, narrowest) for narrowest in narrow[-1:]},
    }
    used = dict.fromkeys(precision for plan in plans.values() for precision in plan.precisions)
    known = {name: value for name, value in manifest.config.items() if name in QuantizationConfig.model_fields}
    stored = storage(QuantizationConfig.model_validate(known))
    operations, weights = (counted_cost(name, listed, used, others, stored) for name in ("bops", "bytes"))
    before = operations.total(plans[f"all {wide}"]) or 1
    floats = 4 * (sum(layer.weight_elements for layer in listed) + sum(one.weight_elements for one in others)) or 1
    rows = [Cost("float32", False, "", 0.0, bytes_text(floats), 1.0)]
    for name, plan in plans.items():
        bops, size = operations.total(plan), weights.total(plan)
        rows.append(Cost(name, "shipped" in name, count_text(bops), bops / before, bytes_text(size), size / floats))
    return rows
