"""The plans on a run's frontier that fit what is asked for now: a target, budgets, or both."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from quant_core.config import MixedPrecisionConfig
from quant_core.errors import InputError, TargetError
from quant_core.pipeline.picking.frontier import METRIC_COLUMNS
from quant_core.results.outcome import Outcome
from quant_core.search import within
from quant_core.storage.frontier_rows import Row, costs_of_plan

__all__ = ["choices_of", "frontier_of", "picked_plan", "score_column", "wide_costs"]


def wide_costs(run: Outcome, asked: MixedPrecisionConfig) -> dict[str, float]:
    """Return what the wide model costs, by each cost that has a budget."""
    return {name: run.manifest.costs.of(name).wide for name in asked.budgets}


def picked_plan(frontier: pa.Table, asked: MixedPrecisionConfig, wide: Mapping[str, float]) -> Row:
    """The cheapest row of the frontier that meets the target or, within budgets, the best; `wide` are all-wide's costs.

    With a confidence the bounds of the run are held against the limit; they hold for all its plans together, so that
    it does not matter that one is chosen among them.
    """
    met = _plans_within(frontier, asked, wide)
    sign = -1.0 if asked.target.higher_is_better else 1.0
    return min(met, key=lambda row: float(sign * row[asked.target.metric])) if asked.budgets else met[0]


def choices_of(run: Outcome) -> list[Row]:
    """Return the plans on a run's frontier that are within its target and its budget, the cheapest first.

    Raises InputError where the run kept no frontier, and TargetError where none is within both.
    """
    asked = MixedPrecisionConfig.model_validate(run.manifest.config)
    return _plans_within(frontier_of(run), asked, wide_costs(run, asked))


def _plans_within(frontier: pa.Table, asked: MixedPrecisionConfig, wide: Mapping[str, float]) -> list[Row]:
    target, column = asked.target, score_column(asked)
    known: list[Row] = [row for row in frontier.to_pylist() if row[column] is not None]
    if not known:
        measured = [name for name in METRIC_COLUMNS if any(row[name] is not None for row in frontier.to_pylist())]
        raise InputError(f"the run did not measure {target.metric}; it measured {', '.join(measured)}")
    rows = [row for row in known if _is_within(row, asked, wide)]
    inside = f" within {asked.budget_text}" if asked.budgets else ""
    if not rows:
        least = f"{known[0]['cost']:.6g}, {known[0]['cost_ratio']:.6g} of the wide model's"
        raise TargetError(f"no plan on the frontier is{inside}: the cheapest is at {least}")
    sign = -1.0 if target.higher_is_better else 1.0
    met = [row for row in rows if target.met_by(row[column])]
    if not met:
        nearest = sign * min(sign * row[column] for row in rows)
        raise TargetError(f"no plan on the frontier{inside} meets {target}: the best is at {nearest:.6g}")
    return met


def _is_within(row: Row, asked: MixedPrecisionConfig, wide: Mapping[str, float]) -> bool:
    """Return whether a plan is within all budgets; raises InputError where what it costs is not known."""
    costs = costs_of_plan(row, asked.cost)
    if unknown := [name for name in asked.budgets if name not in costs]:
        raise InputError(f"max_{unknown[0]}: the run did not count that cost of the plans on its frontier")
    return all(within(costs[name], amount.of(wide[name])) for name, amount in asked.budgets.items())


def score_column(asked: MixedPrecisionConfig) -> str:
    """Return the name of the column that is held against the limit."""
    return asked.target.metric if asked.target.confidence is None else "bound"


def frontier_of(run: Outcome) -> pa.Table:
    """Return a run's frontier (schema FRONTIER); raises InputError where it kept none."""
    if not (run.folder / "frontier.arrow").exists():
        raise InputError(f"{run.folder}: kept no frontier to pick from; run `narrowcast auto` with --frontier")
    return run.table("frontier")
