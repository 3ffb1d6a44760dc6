"""Says by how much the best plan that was found misses the target, or the nearest one the budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping

from quant_core.config import Criterion, RunConfig
from quant_core.manifest import CostSummary
from quant_core.precision import PrecisionPlan

__all__ = ["missed_budgets", "missed_target", "unsure_of_target"]


def missed_target(config: RunConfig, score: float, plan: PrecisionPlan, target: Criterion | None = None) -> str:
    """Return one line on the score of the best plan, which is beyond a target's limit; by default the first's."""
    target = target or config.target
    if math.isnan(score):
        return f"{_best(config, plan)} computes a NaN in an output that is compared, where the float model has none"
    off = abs(score - (target.limit or 0.0))
    return f"{_best(config, plan)} misses {target}: it scores {score:.6g}, off by {off:.6g}"


def unsure_of_target(
    config: RunConfig,
    score: float,
    bound: float,
    samples: int | None,
    plan: PrecisionPlan,
    target: Criterion | None = None,
) -> str:
    """Return one line on the best plan, whose score is within the limit and whose confidence bound is not.

    `samples` is about the number of evaluation samples that would settle it, or None where none would.
    """
    settled = f"about {samples:,} evaluation samples would settle it" if samples else "it is right at the limit"
    return (
        f"{_best(config, plan)} does not surely meet {target or config.target}: it scores {score:.6g}, but "
        f"could be {bound:.6g} on other samples; {settled}"
    )


def missed_budgets(config: RunConfig, costs: Mapping[str, CostSummary]) -> str:
    """Return one line on the cheapest plan, or of several budgets on the one nearest to all, and what it costs."""
    taken = [f"{one.mixed:.6g} {one.unit}, {1 - one.saved:.6g} of the wide model's" for one in costs.values()]
    if len(taken) == 1:
        least = f"the least that the model can cost at these precisions is {taken[0]}"
    else:
        least = f"the plan nearest to that costs {', and '.join(taken)}"
    return f"no plan is within {config.budget_text}: {least}"


def _best(config: RunConfig, plan: PrecisionPlan) -> str:
    if config.budgets:
        return f"the best plan found within {config.budget_text}"
    beside = ", with tensors in float," if plan.tensors else ""
    if lifted := plan.lifted_above(config.wide):
        return f"even the model with its layers at {dict(plan.layers)[lifted[0]]}, above {config.wide}{beside or ','}"
    return f"even the wide model ({config.wide}){beside}"
