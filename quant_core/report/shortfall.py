"""Says by how much the best plan that was found misses the target, or the cheapest one the budget."""

from __future__ import annotations

import math

from quant_core.config import RunConfig

__all__ = ["missed_budget", "missed_target", "unsure_of_target"]


def missed_target(config: RunConfig, score: float) -> str:
    """Return one line on the score of the best plan, which is beyond the target's limit."""
    target = config.target
    if math.isnan(score):
        return f"{_best(config)} computes a NaN in an output that is compared, where the float model has none"
    return f"{_best(config)} misses {target}: it scores {score:.6g}, off by {abs(score - (target.limit or 0.0)):.6g}"


def unsure_of_target(config: RunConfig, score: float, bound: float, samples: int | None) -> str:
    """Return one line on the best plan, whose score is within the limit and whose confidence bound is not.

    `samples` is about the number of evaluation samples that would settle it, or None where none would.
    """
    return (
        f"{_best(config)} is not sure to meet {config.target}: it scores {score:.6g}, but {bound:.6g} is possible; "
        + (f"about {samples:,} evaluation samples would settle it" if samples else "it is right at the limit")
    )


def missed_budget(config: RunConfig, least: float, unit: str, share: float) -> str:
    """Return one line on the cheapest plan: it costs `least`, a `share` of what the wide model costs."""
    return (
        f"no plan is within {config.budget_text}: the least that the model can cost at these precisions is "
        f"{least:.6g} {unit}, {share:.6g} of the wide model's"
    )


def _best(config: RunConfig) -> str:
    if config.budget is not None:
        return f"the best plan found within {config.budget_text}"
    return f"even the wide model ({config.wide})"
