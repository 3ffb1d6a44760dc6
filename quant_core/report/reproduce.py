"""How to go on from a run: the command that made it, and the target worth trying next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from quant_core.budget import BUDGETS
from quant_core.config import Criterion, MixedPrecisionConfig
from quant_core.manifest import Manifest
from quant_core.options import LIMITS, flags_of, number_text, target_flags
from quant_core.report.text import METRIC_NAMES, metric_text, percent

__all__ = ["NextStep", "command", "next_step", "pick_line", "picking"]

_LIMIT_FLAGS = {metric: f"--{name.replace('_', '-')}" for name, metric in LIMITS.items()}
_BUDGET_FLAGS = {cost: f"--{name.replace('_', '-')}" for name, cost in BUDGETS.items()}
_UNKNOWN = {"model": "MODEL", "calibration": "DATA", "evaluation": "DATA", "holdout": "DATA", "output": "DIR"}


@dataclass(frozen=True)
class NextStep:
    """A target worth trying next."""

    reason: str
    """What it would bring."""
    command: str
    """How to ask for it."""


def next_step(manifest: Manifest, search: pa.Table) -> NextStep | None:
    """The nearest target with another outcome; None where there is no target, or no option for its metric."""
    rows = [row for row in search.to_pylist() if math.isfinite(row["score"])]
    if not rows or manifest.target.limit is None or manifest.job != "auto" or manifest.budgets:
        return None  # within a budget the search looked for the best score there is
    if not manifest.target.met:
        return _best_there_is(manifest, rows[0])
    if manifest.narrowed.layers == len(manifest.plan) and len(manifest.narrow) == 1:
        return _stricter(manifest, rows[0])
    return _next_plan(manifest, rows)


def _best_there_is(manifest: Manifest, first: Mapping[str, Any]) -> NextStep:
    """Ask for no more than the best model reaches; `first` is the wide one's row."""
    target = manifest.target.criterion
    known = manifest.scores.mixed.get(target.metric)
    score = first["score"] if known is None else known
    return NextStep(
        f"The best model that was found has {METRIC_NAMES[target.metric]} {metric_text(target.metric, score)}; "
        "no stricter target was met:",
        command(manifest, _rounded_outwards(score, target.higher_is_better)),
    )


def _stricter(manifest: Manifest, first: Mapping[str, Any]) -> NextStep:
    """Ask for a score between that of the model and that of the wide one, whose row is `first`."""
    limit = (first["score"] + manifest.scores.mixed.get(manifest.target.metric, first["score"])) / 2
    return NextStep(
        "Every layer is narrow already. To see what a stricter target costs:", command(manifest, _short(limit))
    )


def _next_plan(manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> NextStep | None:
    """Allow the plan nearest to the target of those that were refused and are as narrow at least."""
    target = manifest.target.criterion
    wider = [row for row in rows if not row["accepted"] and row["macs_share"] >= manifest.narrowed.macs_share]
    if not wider or target.limit is None:
        return None
    limit = target.limit
    nearest = min(wider, key=lambda row: abs(row["score"] - limit))
    return NextStep(
        f"The next plan, with {nearest['layers_narrowed']} layers and {percent(nearest['macs_share'])} of the "
        f"multiply-accumulates narrowed, has {METRIC_NAMES[target.metric]} "
        f"{metric_text(target.metric, nearest['score'])}. To allow it:",
        command(manifest, _rounded_outwards(nearest["score"], target.higher_is_better)),
    )


def picking(manifest: Manifest, points: Sequence[Mapping[str, Any]]) -> NextStep | None:
    """Say how to write another plan of the frontier, whose points are by ascending cost; None where there is no other.

    That is the next cheaper one, or where the cheapest is shipped the next better one.
    """
    target = manifest.target.criterion
    shipped = next((place for place, point in enumerate(points) if point["chosen"]), len(points))
    others = [*reversed(points[:shipped]), *points[shipped + 1 :]]
    if not others:
        return None
    limit = _rounded_outwards(others[0]["bound"], target.higher_is_better)
    return NextStep(
        "To write the model of another of these plans, without a new search, give the limit that it meets:",
        f"narrowcast pick {shlex.quote(_run(manifest))} {_LIMIT_FLAGS[target.metric]} {number_text(limit)}",
    )


def pick_line(
    manifest: Manifest, cost: str, row: Mapping[str, Any], frontier: Sequence[Mapping[str, Any]]
) -> str | None:
    """Return the line that writes just this plan of the frontier; None where no budget or limit is met by it first.

    By a budget where the cost has one: it holds whatever the file scores in its runtime. Elsewhere by a limit that no
    cheaper plan meets.

    Args:
        manifest: the record of the run.
        cost: the name of the cost that the frontier is of.
        row: the plan (schema FRONTIER), which no other beats in cost and in the target's metric.
        frontier: all plans with a score by that metric, the plan among them.

    """
    metric, run = manifest.target.metric, _run(manifest)
    if cost in _BUDGET_FLAGS and 0 < row["cost_ratio"] <= 1:
        dearer = [other["cost_ratio"] for other in frontier if other["cost_ratio"] > row["cost_ratio"]]
        value = _shortest(row["cost_ratio"], min([*dearer, math.nextafter(1, 2)]))
        asked = f"{_BUDGET_FLAGS[cost]} {number_text(value)} --metric {metric}"
    else:
        limit = _own_limit(manifest, row, frontier)
        if limit is None:
            return None
        value, asked = limit, f"{_LIMIT_FLAGS[metric]} {number_text(limit)}"
    folder = f"{run.rstrip('/')}/picked-{number_text(value)}"
    return f"narrowcast pick {shlex.quote(run)} {asked} --out {shlex.quote(folder)}"


def _own_limit(manifest: Manifest, row: Mapping[str, Any], frontier: Sequence[Mapping[str, Any]]) -> float | None:
    """Return a limit that a plan meets and no cheaper one does; None where there is none."""
    target = manifest.target.criterion
    column = target.metric if target.confidence is None else "bound"
    sign = -1.0 if target.higher_is_better else 1.0
    if row[column] is None:
        return None
    error = sign * row[column]
    cheaper = [sign * other[column] for other in frontier if other["cost"] < row["cost"] and other[column] is not None]
    best = min([*cheaper, math.inf])
    return sign * _shortest(error, best) if error < best else None


def _run(manifest: Manifest) -> str:
    """Return the folder of the run that has the frontier, as a command line takes it."""
    run = manifest.sources.run or manifest.sources.output or _UNKNOWN["output"]
    return f"./{run}" if run.startswith("-") else run


def command(manifest: Manifest, limit: float | None = None) -> str:
    """The command of this run, with another limit if one is given."""
    sources = dict(manifest.sources)
    places = {name: sources.get(name) or unknown for name, unknown in _UNKNOWN.items()}
    if manifest.job == "pick":
        return _pick_command(manifest, places["output"])
    model = places["model"]
    parts = [f"narrowcast {manifest.job} {shlex.quote(f'./{model}' if model.startswith('-') else model)}"]
    if manifest.job != "auto":  # the manifest has the plan, however it was written, and the options
        parts.append(f"--tensors {shlex.quote(places['output'].rstrip('/') + '/manifest.json')}")
    for name in ("calibration", "evaluation", "holdout"):
        if name != "holdout" or manifest.data.holdout:
            parts.append(f"--{name} {shlex.quote(places[name])}")
    parts += _flags(manifest, limit)
    folder = places["output"] if limit is None else f"{places['output'].rstrip('/')}-{limit:g}"
    parts.append(f"--out {shlex.quote(folder)}")
    return " \\\n    ".join(parts)


def _flags(manifest: Manifest, limit: float | None) -> list[str]:
    """Flags of the target, and of all options that are not at their defaults."""
    target = manifest.target.criterion.model_dump()
    target |= {} if limit is None else {"limit": limit}
    if manifest.job == "auto":
        flags = flags_of(MixedPrecisionConfig.model_validate({**manifest.config, "target": target}))
    else:
        targets = [Criterion.model_validate(target), *(one.criterion for one in manifest.target.also)]
        flags = (flag for one in targets for flag in target_flags(one))
    return [flag if value is None else f"{flag} {shlex.quote(value)}" for flag, value in flags]


def _pick_command(manifest: Manifest, output: str) -> str:
    target = manifest.target
    parts = [f"narrowcast pick {shlex.quote(manifest.sources.run or _UNKNOWN['output'])}"]
    if manifest.picked_plan is not None:
        parts.append(f"--plan {manifest.picked_plan[:16]}")
    if target.limit is not None:
        parts.append(f"{_LIMIT_FLAGS[target.metric]} {number_text(target.limit)}")
    parts += [f"--max-{budget.cost} {budget.asked}" for budget in manifest.budgets]
    if manifest.budgets and target.limit is None:
        parts.append(f"--metric {target.metric}")
    return " \\\n    ".join([*parts, f"--out {shlex.quote(output)}"])


def _rounded_outwards(score: float, higher_is_better: bool) -> float:
    """A limit of three digits that a plan with this score just meets."""
    if not score:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(score))) - 2)
    return _short((math.floor(score / step) if higher_is_better else math.ceil(score / step)) * step)


def _shortest(low: float, high: float) -> float:
    """Return a number of few digits from `low` up to below `high`."""
    for digits in range(3, 17) if low else ():
        step = 10.0 ** (math.floor(math.log10(abs(low))) + 1 - digits)
        value = float(f"{math.ceil(low / step) * step:.{digits}g}")
        if low <= value < high:
            return value
    return low


def _short(value: float) -> float:
    return float(f"{value:.3g}")
