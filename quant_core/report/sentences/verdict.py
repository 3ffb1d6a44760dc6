"""The outcome of a run in a sentence, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence

from quant_core.budget import Amount
from quant_core.config import Criterion
from quant_core.manifest import Budget, Manifest, Part
from quant_core.precision import Precision
from quant_core.report.tables.scores import spread_of
from quant_core.report.text import METRIC_NAMES, cost_text, limit_text, metric_text, percent

__all__ = ["claims", "doubt", "headline", "is_met", "on_random_data", "verdict"]


def is_met(manifest: Manifest) -> bool:
    """Return whether the model meets the target and is within its budgets, as far as there are any."""
    return bool(manifest.target.met and manifest.is_affordable)


def headline(manifest: Manifest) -> str:
    """The outcome in two words, and a mark where data were random."""
    return f"{_outcome(manifest)}{on_random_data(manifest.data.random)}"


def on_random_data(roles: Sequence[str]) -> str:
    """Return the mark of a dry run, which stands behind what is said of its model; empty for other runs."""
    return " on random data (a dry run)" if roles else ""


def _outcome(manifest: Manifest) -> str:
    if manifest.budgets and (manifest.target.limit is None or not manifest.is_affordable):
        return "Within budget" if manifest.is_affordable else "Over budget"
    if manifest.target.limit is None:
        return "Quantized"
    return "Target met" if manifest.target.met else "Target missed"


def verdict(manifest: Manifest) -> str:
    """The outcome in one sentence, with its numbers."""
    target, narrowed, scores = manifest.target.criterion, manifest.narrowed, manifest.scores
    value = metric_text(target.metric, scores.mixed.get(target.metric))
    name = (target.function and f"drop of {target.function}") or METRIC_NAMES[target.metric]
    met = manifest.target.met and not manifest.target.also
    if manifest.target.also:
        bound = manifest.target.bound if target.confidence is not None else scores.mixed.get(target.metric)
        met = bound is not None and target.met_by(bound)
    scored = f"{name} is {value}{_against_limit(target, met, scores.mixed.get(target.metric))}{_further(manifest)}"
    held_out = scores.holdout.get(target.metric)
    proof = "" if held_out is None else f"; on held-out data it is {metric_text(target.metric, held_out)}"
    proof += "".join(map(_against_budget, manifest.budgets))
    if manifest.data.random:
        proof += f"; random data ({', '.join(manifest.data.random)}) say nothing about accuracy"
    proof += _lifted(manifest)
    if not narrowed.layers:
        kept = "All" if not narrowed.lifted else f"{len(manifest.plan) - narrowed.lifted or 'None'} of"
        return f"{kept} {len(manifest.plan)} layers stay at {manifest.wide}: {scored}{proof}."
    layers = "All" if narrowed.layers == narrowed.of else f"{narrowed.layers} of"
    saved = 1 - narrowed.bops_ratio
    return (
        f"{layers} {narrowed.of} layers, {percent(narrowed.macs_share)} of the multiply-accumulates, run at "
        f"{' or '.join(_used(manifest))} instead of {manifest.wide}, which "
        f"{f'takes {percent(saved)} off' if saved >= 0 else f'adds {percent(-saved)} to'} "
        f"the bit operations: {scored}{proof}."
    )


def _further(manifest: Manifest) -> str:
    """Say how the model does by the targets behind the first, and which of them binds."""
    if not manifest.target.also:
        return ""
    said = [
        f", {METRIC_NAMES[one.metric]} {metric_text(one.metric, manifest.scores.mixed.get(one.metric))}"
        + _against_limit(one.criterion, one.met, manifest.scores.mixed.get(one.metric))
        for one in manifest.target.also
    ]
    return f"{''.join(said)}; the tightest is {METRIC_NAMES[manifest.target.binds or manifest.target.metric]}"


def _above(manifest: Manifest) -> list[str]:
    """Return the precisions above wide that the plan uses, the widest first."""
    wide = Precision.parse(manifest.wide)
    lifted = {one for one in map(Precision.parse, manifest.plan.values()) if wide.narrower_than(one)}
    return [str(one) for one in sorted(lifted, key=lambda one: (-one.bit_product, str(one)))]


def _lifted(manifest: Manifest) -> str:
    """Say which layers are above wide, and why."""
    count, metric = manifest.narrowed.lifted, manifest.target.metric
    if not count:
        return ""
    wide = metric_text(metric, manifest.scores.wide.get(metric))
    layers = "1 layer is" if count == 1 else f"{count} layers are"
    return f"; {layers} lifted to {' or '.join(_above(manifest))}, since with all at {manifest.wide} it is {wide}"


def _against_limit(target: Criterion, met: bool, value: float | None) -> str:
    if target.limit is None:
        return ""
    bound = f"{'at least' if target.higher_is_better else 'at most'} {limit_text(target.metric, target.limit)}"
    unsure = not met and value is not None and target.met_by(value)  # its confidence bound is beyond the limit
    return f", {'within' if met or unsure else 'outside'} the target of {bound}{', but not surely' if unsure else ''}"


def claims(manifest: Manifest) -> str:
    """Write what was asked for as a claim: `l2 <= 0.5`, `bops <= 0.4 of the wide model`, or both."""
    target = manifest.target.criterion
    asked = [] if target.limit is None and manifest.budgets else [str(target)]
    asked += [str(one.criterion) for one in manifest.target.also]
    asked += [Amount.parse(one.cost, one.asked).claim(one.cost) for one in manifest.budgets]
    return ", ".join(asked)


_SPENT = {"bops": "the bit operations are", "bytes": "the weights take", "latency": "a sample takes"}


def _against_budget(budget: Budget) -> str:
    cost, asked = budget.cost, Amount.parse(budget.cost, budget.asked)
    if asked.is_share:
        spent, limit = f"{percent(budget.share, 1)} of the wide model's", percent(asked.value, 1)
    else:
        spent, limit = (cost_text(cost, value) for value in (budget.spent, budget.limit))
    return f"; {_SPENT[cost]} {spent}, {'within' if budget.met else 'above'} the budget of {limit}"


def doubt(manifest: Manifest) -> str:
    """Return what held-out data and intervals say against a target that is met; empty if nothing."""
    target = manifest.target.criterion
    if not manifest.target.met:
        return ""
    fresh = manifest.scores.holdout.get(target.metric)
    if fresh is not None and not target.met_by(fresh):
        return "On the held-out data the same model misses the target."
    places: dict[Part, str] = {"mixed": "on the evaluation data", "holdout": "on the held-out data"}
    found = " and ".join(place for part, place in places.items() if _reaches_beyond(manifest, part, target))
    said = f"The 95% interval {found} reaches beyond the limit: on other samples the target may be missed."
    return said if found else ""


def _reaches_beyond(manifest: Manifest, part: Part, target: Criterion) -> bool:
    value = manifest.scores.of(part).get(target.metric)
    spread = spread_of(manifest, part, target.metric) or (value, value)
    worst = spread[0 if target.higher_is_better else 1]
    return worst is not None and not target.met_by(worst)


def _used(manifest: Manifest) -> list[str]:
    """The narrow precisions that the plan uses, in the order the user gave them."""
    return [precision for precision in manifest.narrow if precision in manifest.plan.values()]
