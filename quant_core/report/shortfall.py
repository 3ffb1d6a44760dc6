"""Says by how much the best plan that was found misses the target, or the cheapest one the budget."""

from __future__ import annotations

import math

from quant_core.config import Criterion, RunConfig
from quant_core.precision import PrecisionPlan

__all__ = ["missed_budget", "missed_target", "unsure_of_target"]


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
        f"{_best(config, plan)} is not sure to meet {target or config.target}: it scores {score:.6g}, but "
        f"{bound:.6g} is possible; {settled}"
    )


def missed_budget(config: RunConfig, least: float, unit: str, share: float) -> str:
    """Return one line on the cheapest plan: it costs `least`, a `share` of what the wide model costs."""
    return (
        f"no plan is within {config.budget_text}: the least that the model can cost at these precisions is "
        f"{least:.6g} {unit}, {share:.6g} of the wide model's"
    )


def _best(config: RunConfig, plan: PrecisionPlan) -> str:
    if config.budget is not None:
        return f"the best plan found within {config.budget_text}"
    beside = ", with tensors in float," if plan.tensors else ""
    if lifted := plan.lifted_above(config.wide):
        return f"even the model with its layers at {dict(plan.layers)[lifted[0]]}, above {config.wide}{beside or ','}"
    return f"even the wide model ({config.wide}){beside}"
