"""Makes numbers of a model's plans, which are all that search strategies know: losses, costs, and what was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quant_core.pipeline.plans.study import Study
from quant_core.precision import Precision, PrecisionPlan
from quant_core.scoring.metrics import METRICS, additive
from quant_core.search import Candidate, Measured, Space
from quant_core.search.boundaries import BoundaryCosts
from quant_core.search.budgets import Budget, even, mixed, plan_within
from quant_core.search.cost import CostModel
from quant_core.search.units import Units

__all__ = ["cheapest_of", "layer_costs", "plan_of", "search_space", "unit_pairs", "units_of"]


def cheapest_of(study: Study) -> PrecisionPlan:
    """Return the plan that costs least, or is farthest within its budgets.

    Of precisions that cost the same, a layer has the narrowest.
    """
    units = _units(study)
    budgets = _budgets(study, units) or (_budget(study, units, study.cost, 0.0),)
    choice = plan_within(budgets, narrowest=True)
    rungs = dict(zip(_names(study), units.rungs(choice), strict=True))
    return study.wide.plan.narrowed({name: study.ladder[rungs[name]] for name in study.candidates})


def search_space(study: Study, ranking: pa.Table) -> Space:
    """Return what the strategies know of a model: its layers' losses and costs, and the plans tried so far."""
    config = study.job.config
    units, names = _units(study), _names(study)
    budgets = _budgets(study, units)
    costs, boundaries = _costs(study, units)
    # A block is probed under the name of its first layer.
    places = [names[layers[0]] for layers in units.members]
    losses, moves = _losses(ranking, places, study.ladder)
    if config.rank == "l2-float":  # what a layer adds, on the scale on which that adds up
        before = METRICS["l2"](study.start.scores).value
        losses[:, 1:] = np.maximum(losses[:, 1:] ** 2 - before**2, 0.0)
    # Rungs above wide and tensors in float that were tried and not kept are not the study's.
    tried = [trial for trial in study.trials if study.has(trial.plan)]
    choices = [(_candidate_of(study, units, trial.plan), trial) for trial in tried]
    known = {choice: study.measured(trial) for choice, trial in choices if choice is not None}
    return Space(
        losses=losses,
        costs=costs,
        boundaries=boundaries,
        ranking=tuple(_of_first_layers(_in_order(moves, places, config.order), config.most_layers)),
        limit=_limit(study, known),
        known=known,
        evaluations=config.evaluations,
        budgets=budgets,
        expected=_expected(ranking, places),
        fixed=frozenset(at for at, name in enumerate(places) if name not in study.candidates),
    )


def _limit(study: Study, known: Mapping[Candidate, Measured]) -> float:
    """Return the largest error that meets the target; without one, what was measured says which errors matter."""
    target = study.job.config.target
    if study.job.config.also:
        return 1.0
    if target.limit is None:
        return max(found.error for found in known.values())
    return additive(target.metric, target.limit)


def units_of(study: Study) -> list[tuple[str, ...]]:
    """Return the names of the layers of each unit of `search_space`, in its order."""
    names = _names(study)
    return [tuple(names[layer] for layer in layers) for layers in _units(study).members]


def _names(study: Study) -> list[str]:
    return [name for name, _ in study.wide.plan.layers]


def _units(study: Study) -> Units:
    """Return the layers that move together: the study's blocks, and every other layer on its own."""
    block_of = {name: block for block in study.blocks for name in block}
    number = {name: at for at, name in enumerate(_names(study))}
    groups = dict.fromkeys(block_of.get(name, (name,)) for name in number)
    return Units(tuple(tuple(number[name] for name in group) for group in groups))


def unit_pairs(study: Study) -> NDArray[np.int64]:
    """Return the units that have layers where boundaries count, by number, once for each two layers; not within one."""
    unit_of, number = _units(study).unit_of, {name: at for at, name in enumerate(_names(study))}
    pairs = [sorted(unit_of[number[name]] for name in pair) for pair in study.neighbours]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def layer_costs(study: Study) -> dict[str, NDArray[np.float64]]:
    """Return what each layer costs on each rung, as the search counts it."""
    names = _names(study)
    costs, _ = _costs(study, Units(tuple((number,) for number in range(len(names)))))
    return dict(zip(names, costs, strict=True))


def _costs(study: Study, units: Units) -> tuple[NDArray[np.float64], BoundaryCosts]:
    """Return the costs of units by rung and of the boundaries between them; with several budgets a mix of these."""
    budgets = _budgets(study, units) or (_budget(study, units, study.cost, 0.0),)
    return mixed(budgets, even(len(budgets)))


def _budgets(study: Study, units: Units) -> tuple[Budget, ...]:
    return tuple(_budget(study, units, study.costs[name], most) for name, most in study.budgets.items())


def _budget(study: Study, units: Units, cost: CostModel, most: float) -> Budget:
    """Costs by unit and rung; those of a layer that no plan narrows are everywhere what it costs wide."""
    ladder, names = study.ladder, _names(study)
    costs = np.array([[cost.prices[name, precision] for precision in ladder] for name in names])
    fixed, wide = _fixed(study), ladder.index(study.job.config.wide)
    costs[fixed] = costs[fixed, wide : wide + 1]
    between = BoundaryCosts.of(cost, names, ladder).with_fixed(fixed, wide)
    return Budget(most - cost.fixed, units.sums(costs), units.boundaries(between))


def _fixed(study: Study) -> list[int]:
    return [index for index, name in enumerate(_names(study)) if name not in study.candidates]


def _losses(
    ranking: pa.Table, names: Sequence[str], ladder: tuple[Precision, ...]
) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
    """Losses by unit and rung, and the ranking's rows as moves; `names` are what the units are probed under."""
    layer_of = {name: index for index, name in enumerate(names)}
    rung_of = {str(precision): rung for rung, precision in enumerate(ladder)}
    losses = np.full((len(names), len(ladder)), np.inf)
    losses[:, 0] = 0.0
    moves = []
    for row in ranking.select(["layer", "precision", "loss"]).to_pylist():
        layer, rung = layer_of[row["layer"]], rung_of[row["precision"]]
        losses[layer, rung] = math.inf if math.isnan(row["loss"]) else row["loss"]
        moves.append((layer, rung))
    return losses, moves


def _expected(ranking: pa.Table, names: Sequence[str]) -> frozenset[int]:
    """Return the numbers of the units whose losses have no samples."""
    unmeasured = set(ranking.filter(pc.equal(ranking.column("samples"), 0)).column("layer").to_pylist())
    return frozenset(at for at, name in enumerate(names) if name in unmeasured)


def _in_order(moves: list[tuple[int, int]], names: Sequence[str], order: Sequence[str]) -> list[tuple[int, int]]:
    """Return the moves in the user's order of layers, rung by rung; what it does not name comes last, as probed."""
    if not order:
        return moves
    place = {name: index for index, name in enumerate(order)}
    return sorted(moves, key=lambda move: (move[1], place.get(names[move[0]], len(order))))


def _of_first_layers(moves: list[tuple[int, int]], most: int | None) -> list[tuple[int, int]]:
    """The moves of so many layers, those that the ranking names first; all without a number."""
    first = list(dict.fromkeys(layer for layer, _ in moves))[:most]
    return [move for move in moves if move[0] in first]


def plan_of(study: Study, choice: Candidate) -> PrecisionPlan:
    """Return the plan that a strategy's choice of rungs stands for."""
    start = study.start.plan
    rungs = zip(start.layers, _units(study).rungs(choice), strict=True)
    return start.narrowed({name: study.ladder[rung] for (name, _), rung in rungs if rung})


def _candidate_of(study: Study, units: Units, plan: PrecisionPlan) -> Candidate | None:
    rung_of = {precision: rung for rung, precision in enumerate(study.ladder)}
    return units.choice([rung_of[precision] if name in study.candidates else 0 for name, precision in plan.layers])
