"""What the report says of how sure the target is, where a confidence was asked for."""

from __future__ import annotations

from quant_core.manifest import Manifest
from quant_core.report.text import METRIC_NAMES, metric_text, percent

__all__ = ["certainty"]


def certainty(manifest: Manifest) -> list[str]:
    """Return sentences on the bound, on whether held-out data confirm it, and on what more samples would decide."""
    target, found = manifest.target.criterion, manifest.target
    if target.confidence is None:
        return []
    side = "at least" if target.higher_is_better else "at most"
    looks, samples = found.looks, manifest.samples.evaluation
    said = [
        f"With {percent(target.confidence)} confidence, {METRIC_NAMES[target.metric]} is {side} "
        f"{metric_text(target.metric, found.bound)} ({samples:,} evaluation samples; {looks} evaluated "
        f"{'plan' if looks == 1 else 'plans'} share the {percent(1 - target.confidence)} chance of error)."
    ]
    if fresh := found.holdout:
        unconfirmed = "which does not confirm the target: it may be missed, or the samples are too few"
        verdict = "which confirms it" if fresh.met else unconfirmed
        said.append(
            f"On held-out data, which was used only once, it is {side} {metric_text(target.metric, fresh.bound)} "
            f"with the same confidence, {verdict}."
        )
    if open_plan := found.undecided:
        enough = open_plan.samples
        said.append(
            f"A plan at {percent(open_plan.cost_ratio)} of the wide model's cost scores "
            f"{metric_text(target.metric, open_plan.score)}, which is within the limit, but could be "
            f"{metric_text(target.metric, open_plan.bound)} on other samples; "
            + (f"about {enough:,} evaluation samples would decide." if enough else "its score is right at the limit.")
        )
    return said
