"""What the report says of how sure the target is, where a confidence was asked for."""

from __future__ import annotations

from quant_core.manifest import Manifest
from quant_core.report.text import METRIC_NAMES, metric_text, percent

__all__ = ["certainty"]


def certainty(manifest: Manifest) -> list[str]:
    """Sentences on the bound, on its confirmation by held-out data, and on what more samples would settle."""
    target, found = manifest.target.criterion, manifest.target
    if target.confidence is None:
        return []
    side = "at least" if target.higher_is_better else "at most"
    looks, samples = found.looks, manifest.samples.evaluation
    said = [
        f"With {percent(target.confidence)} confidence, {METRIC_NAMES[target.metric]} is {side} "
        f"{metric_text(target.metric, found.bound)}: on {samples:,} evaluation samples, with the chance of error "
        f"shared by {looks} {'look' if looks == 1 else 'looks'}."
    ]
    if fresh := found.holdout:
        verdict = "which confirms it" if fresh.met else "which is too few to confirm the target, or against it"
        said.append(
            f"On held-out data, looked at once, it is {side} {metric_text(target.metric, fresh.bound)} "
            f"with the same confidence, {verdict}."
        )
    if open_plan := found.undecided:
        enough = open_plan.samples
        said.append(
            f"A plan of {percent(open_plan.cost_ratio)} of the wide model's cost scores "
            f"{metric_text(target.metric, open_plan.score)}, within the limit, but "
            f"{metric_text(target.metric, open_plan.bound)} is possible; "
            + (f"about {enough:,} evaluation samples would settle it." if enough else "it is right at the limit.")
        )
    return said
