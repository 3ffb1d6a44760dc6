"""What the manifest and the tables say of one plan: its costs, its budgets, what it narrows, its types and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from quant_core.budget import Amount
from quant_core.config import ProbeConfig, RunConfig
from quant_core.manifest import Budget, Costs, CostSummary, Narrowed, OtherOperators
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.other_products import OtherProduct, other_products
from quant_core.model.prepared_model import prepared_graph
from quant_core.precision import Precision, PrecisionPlan
from quant_core.probing.ranking import macs_share
from quant_core.results.tensor_types import with_tensor_types
from quant_core.search import within
from quant_core.search.cost import CostModel

__all__ = ["BudgetsKept", "budgets_kept", "calibration_with_types", "cost_summaries", "narrow_precisions", "narrowed"]


class BudgetsKept(TypedDict):
    """What a manifest says of budgets."""

    budget: Budget | None
    """The first; None where none is set."""
    further_budgets: tuple[Budget, ...]
    """The others."""


def budgets_kept(config: RunConfig, costs: Costs) -> BudgetsKept:
    """Return what the model may cost at most beside what it costs."""
    found = [_budget(name, amount, costs.of(name)) for name, amount in config.budgets.items()]
    return {"budget": found[0] if found else None, "further_budgets": tuple(found[1:])}


def _budget(name: str, asked: Amount, cost: CostSummary) -> Budget:
    limit = asked.of(cost.wide)
    return Budget(
        cost=name,
        asked=str(asked),
        unit=cost.unit,
        limit=limit,
        spent=cost.mixed,
        share=cost.mixed / cost.wide if cost.wide else 1.0,
        met=within(cost.mixed, limit),
    )


def narrowed(
    layers: pa.Table, plan: PrecisionPlan, wide: PrecisionPlan, precision: Precision, bops: CostModel
) -> Narrowed:
    """Return how much of the model (schema LAYERS) a plan narrows, against the wide plan, all at `precision`."""
    listed, others = layers_from_table(layers), other_products(layers)
    return Narrowed(
        layers=len(plan.narrowed_from(precision)),
        of=len(listed) + len(others),
        macs_share=macs_share(listed, plan, precision, others),
        bops_ratio=bops.ratio(plan, wide),
        others=_others(listed, others),
        lifted=len(plan.lifted_above(precision)),
    )


def _others(layers: Sequence[Layer], others: Sequence[OtherProduct]) -> tuple[OtherOperators, ...]:
    """Return the operators that multiply and are no layers, those of one type and one reason together."""
    total = sum(layer.macs for layer in layers) + sum(other.macs or 0 for other in others)
    kinds = dict.fromkeys((other.op, other.wide, other.why) for other in others)
    alike = {kind: [other.macs for other in others if (other.op, other.wide, other.why) == kind] for kind in kinds}
    return tuple(
        OtherOperators(
            op=op,
            nodes=len(macs),
            precision="wide" if wide else "float",
            macs_share=None if None in macs else sum(filter(None, macs)) / (total or 1),
            why=why,
        )
        for (op, wide, why), macs in alike.items()
    )


def cost_summaries(costs: Iterable[CostModel], plan: PrecisionPlan, wide: PrecisionPlan) -> dict[str, CostSummary]:
    """Return for each cost what the wide and the chosen plan take, and the share that is saved."""
    return {
        cost.name: CostSummary(
            unit=cost.unit, wide=cost.total(wide), mixed=cost.total(plan), saved=1 - cost.ratio(plan, wide)
        )
        for cost in costs
    }


def narrow_precisions(config: RunConfig, plan: PrecisionPlan) -> Sequence[Precision]:
    """Return the precisions that layers may have beside the wide one: those of the search, or those of the plan."""
    if isinstance(config, ProbeConfig):
        return config.narrow
    chosen = dict.fromkeys(precision for _, precision in plan.layers if precision != config.wide)
    return sorted(chosen, key=lambda precision: -precision.bit_product)


def calibration_with_types(
    calibration: pa.Table, layers: pa.Table, plan: PrecisionPlan, config: RunConfig, cache: Path
) -> pa.Table:
    """Return the calibration table with each tensor's types in a plan, and its range in each, for the report."""
    graph = prepared_graph(layers, cache)
    narrow = [precision.activations for precision in narrow_precisions(config, plan)]
    kinds = dict.fromkeys([config.wide.activations, *narrow, *(kind for _, kind in plan.tensors)])
    return with_tensor_types(calibration, graph, layers, plan, config.quantization(), list(kinds))
