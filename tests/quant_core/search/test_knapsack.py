"""The knapsack against brute force: any number of rungs, and tables in which narrower is neither cheaper nor worse."""

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quant_core.search import STRATEGIES, knapsack
from quant_core.search.knapsack import cheapest_plans
from tests.quant_core.search.lookup import (
    LAYERS,
    LIMIT,
    additive,
    cheapest,
    interacting,
    jagged,
    jumbled,
    search,
    space,
)


def summed(table, plan):
    return float(table[np.arange(len(plan)), plan].sum())


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.sampled_from(sorted(LAYERS)), st.sampled_from([0.0, 0.3]), st.floats(0.05, 1))
@example(524287, 3, 0.0, 0.9643265012484504)  # a plan a hair within the capacity, whose rounded sum is beyond it
def test_for_every_sum_of_losses_the_plan_is_the_cheapest_but_for_rounding(seed, rungs, missing, share):
    losses, costs = jumbled(seed, rungs, missing)
    layers = len(losses)
    every = [(summed(losses, plan), summed(costs, plan)) for plan in product(range(rungs), repeat=layers)]
    capacity = share * float(np.where(np.isfinite(losses), losses, 0).max(axis=1).sum())
    found = cheapest_plans(losses, costs, capacity)
    rounding = layers * capacity / 4096
    assert all(summed(losses, plan) <= capacity + rounding for plan in found)
    for allowed in (capacity / 4, capacity / 2, capacity):
        optimum = min(cost for loss, cost in every if loss <= allowed)
        assert min(summed(costs, plan) for plan in found if summed(losses, plan) <= allowed + rounding) <= optimum
    assert [summed(costs, plan) for plan in found] == sorted({summed(costs, plan) for plan in found}, reverse=True)


@pytest.mark.parametrize("rungs", sorted(LAYERS))
def test_on_additive_tables_of_any_kind_the_search_is_within_two_percent_of_the_optimum(rungs):
    for seed in range(15):
        losses, costs = jumbled(seed, rungs)
        asked = space(losses, costs, evaluations=12)
        errors = additive(losses)
        best = cheapest(asked, errors)
        saved = asked.cost(asked.wide) - search(knapsack, asked, errors).cost
        assert saved >= 0.98 * (asked.cost(asked.wide) - best), seed


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(sorted(STRATEGIES)), st.sampled_from(sorted(LAYERS)))
def test_on_jumbled_tables_no_strategy_settles_on_a_plan_that_misses_or_costs_more_than_the_wide_one(seed, name, rungs):
    losses, costs = jumbled(seed, rungs)
    for errors in (additive(losses), interacting(losses, seed), jagged(seed)):
        asked = space(losses, costs, evaluations=5)
        found = search(STRATEGIES[name], asked, errors)
        assert found.plan == asked.wide or errors(found.plan) <= LIMIT
        assert found.cost <= asked.cost(asked.wide)


@given(st.integers(0, 10**6), st.sampled_from(sorted(LAYERS)))
def test_linear_is_the_documented_rule_on_any_ladder(seed, rungs):
    """Down the ranking by loss, one move at a time, up to the first that would miss."""
    losses, costs = jumbled(seed, rungs)
    errors, plan, accepted = additive(losses), [0] * len(losses), [(0,) * len(losses)]
    for _, layer, rung in sorted(
        (losses[layer, rung], layer, rung) for layer in range(len(losses)) for rung in range(1, rungs)
    ):
        plan[layer] = max(plan[layer], rung)
        if errors(tuple(plan)) > LIMIT:
            break
        accepted.append(tuple(plan))
    asked = space(losses, costs)
    found = search(STRATEGIES["linear"], asked, errors)
    assert [one for one in found.tried if errors(one) <= LIMIT] == list(dict.fromkeys(accepted))[1:]
    assert found.cost == min(map(asked.cost, accepted))
