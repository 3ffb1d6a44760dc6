"""Costs of boundaries between neighbours: exact wherever a plan's cost counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from quant_core.precision import Precision, PrecisionPlan
from quant_core.search import STRATEGIES, Budget, Space
from quant_core.search.boundaries import NO_BOUNDARIES, BoundaryCosts, cheapest_plan
from quant_core.search.cost import Boundary, CostModel
from tests.quant_core.search.lookup import additive, search, space, tables

WIDE, NARROW = Precision.parse("float32"), Precision.parse("au8w8")


def chain(seed: int, layers: int = 8, strength: float = 1.0) -> Space:
    """A space whose layers stand in a row; going from one precision to the other costs about what a layer does."""
    losses, costs = tables(seed, layers)
    random = np.random.default_rng(seed)
    between = np.zeros((layers - 1, 2, 2))
    between[:, [0, 1], [1, 0]] = random.uniform(0, strength * costs.mean(), (layers - 1, 2))
    ends = np.array([(at, at + 1) for at in range(layers - 1)])
    return replace(space(losses, costs), boundaries=BoundaryCosts(ends, between))


@pytest.mark.parametrize(("first", "second", "total"), [(0, 0, 7), (1, 1, 3), (0, 1, 10.5), (1, 0, 9.25)])
def test_a_plan_costs_its_layers_and_the_boundaries_that_it_has(first, second, total):
    prices = {("a", WIDE): 3.0, ("a", NARROW): 1.0, ("b", WIDE): 4.0, ("b", NARROW): 2.0}
    between = Boundary("a", "b", {(WIDE, NARROW): 5.5, (NARROW, WIDE): 4.25})
    cost = CostModel("latency", "ms", prices, boundaries=(between,))
    ladder = (WIDE, NARROW)
    assert cost.total(PrecisionPlan((("a", ladder[first]), ("b", ladder[second])))) == total
    layers = np.array([[prices[name, one] for one in ladder] for name in "ab"])
    given = replace(space(np.zeros((2, 2)), layers), boundaries=BoundaryCosts.of(cost, ["a", "b"], ladder))
    assert given.cost((first, second)) == total


@pytest.mark.parametrize("seed", range(5))
def test_costs_around_a_plan_are_those_of_its_neighbours(seed):
    given = chain(seed)
    plan = tuple(np.random.default_rng(seed).integers(0, 2, len(given.costs)).tolist())
    around = given.costs_around(plan)
    for layer, rung in product(range(len(plan)), (0, 1)):
        changed = (*plan[:layer], rung, *plan[layer + 1 :])
        difference = around[layer, rung] - around[layer, plan[layer]]
        assert given.cost(changed) - given.cost(plan) == pytest.approx(difference)


@pytest.mark.parametrize("seed", range(20))
def test_the_cheapest_plan_is_the_cheapest_of_all(seed):
    given = chain(seed)
    costs = given.costs.copy()
    costs[::3] = costs[::3, ::-1]  # not always is narrow cheaper
    given = replace(given, costs=costs)
    least = min(given.cost(plan) for plan in product((0, 1), repeat=len(costs)))
    assert given.cost(given.cheapest) <= 1.02 * least


def test_without_boundaries_the_cheapest_plan_is_the_sum_of_the_cheapest_rungs():
    costs = np.array([[2.0, 1.0], [1.0, 1.0], [1.0, 2.0]])
    assert cheapest_plan(costs, NO_BOUNDARIES) == (1, 0, 0)
    assert cheapest_plan(costs, NO_BOUNDARIES, narrowest=True) == (1, 1, 0)


def test_a_layer_that_no_plan_narrows_counts_as_wide():
    given = BoundaryCosts(np.array([(0, 1)]), np.array([[[0.0, 3.0], [5.0, 0.0]]])).with_fixed([0])
    assert given.sums(np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.int8)).tolist() == [0, 0, 3, 3]


@pytest.mark.parametrize("strategy", ["greedy", "knapsack"])
def test_a_search_that_sees_boundaries_finds_cheaper_plans_than_one_that_does_not(strategy):
    ratios = []
    for seed in range(30):
        given = chain(seed)
        errors = additive(given.losses)
        seeing = search(STRATEGIES[strategy], given, errors).cost
        blind = search(STRATEGIES[strategy], replace(given, boundaries=NO_BOUNDARIES), errors).plan
        best = min(given.cost(plan) for plan in product((0, 1), repeat=8) if errors(plan) <= given.limit)
        assert seeing <= given.cost(given.wide)
        ratios.append((seeing / best, given.cost(blind) / best))
    mean, of_blind = np.mean(ratios, axis=0)
    assert mean < of_blind
    assert mean < 1.05


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_plan_beyond_a_budget_is_tried(strategy):
    for seed in range(10):
        given = chain(seed)
        budget = 0.5 * (given.cost(given.wide) + given.cost(given.cheapest))
        found = search(
            STRATEGIES[strategy],
            replace(given, budgets=(Budget(budget, given.costs, given.boundaries),)),
            additive(given.losses),
        )
        assert found.cost <= budget * (1 + 1e-9)
