"""The best score within a budget, against brute force over all plans of up to a dozen layers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_core.search import STRATEGIES, Budget, greedy, knapsack
from quant_core.search.within_budget import least_losses
from tests.quant_core.search.lookup import (
    LAYERS,
    additive,
    interacting,
    jagged,
    jumbled,
    least_error,
    search,
    space,
    tables,
)

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
BOUNDS = {"linear": 1, "bisect": 1, "knapsack": 5, "greedy": 1 + 5}


def within(share, losses, costs, evaluations=5):
    """A space whose budget is that far from what all-narrow costs to what all-wide costs."""
    narrow, wide = costs.min(axis=1).sum(), costs[:, 0].sum()
    return space(losses, costs, evaluations, budgets=(Budget(narrow + share * (wide - narrow), costs),))


@pytest.mark.parametrize("rungs", [2, 3])
@pytest.mark.parametrize("strategy", [knapsack, greedy], ids=lambda strategy: strategy.__name__)
def test_on_additive_tables_the_error_is_within_two_percent_of_the_least(strategy, rungs):
    for seed in range(40 if rungs == 2 else 15):
        losses, costs = tables(seed, rungs=rungs)
        asked = within(SHARES[seed % 5], losses, costs)
        errors = additive(losses)
        assert errors(search(strategy, asked, errors).plan) <= 1.02 * least_error(asked, errors) + 1e-12, seed


@pytest.mark.parametrize("rungs", sorted(LAYERS))
def test_so_it_is_where_a_narrower_rung_may_lose_less_or_cost_more(rungs):
    for seed in range(10):
        losses, costs = jumbled(seed, rungs)
        asked, errors = within(SHARES[seed % 5], losses, costs, evaluations=12), additive(losses)
        assert errors(search(knapsack, asked, errors).plan) <= 1.02 * least_error(asked, errors) + 1e-12, seed


def test_measuring_finds_better_plans_than_predicting_where_layers_interact():
    """What is left above the least error there is falls with the plans that are tried."""
    left = {evaluations: [] for evaluations in (1, 8)}
    for seed in range(30):
        losses, costs = tables(seed, layers=10)
        errors = interacting(losses, seed, 0.4)
        for evaluations, found in left.items():
            asked = within(0.4, losses, costs, evaluations)
            found.append(errors(search(knapsack, asked, errors).plan) / least_error(asked, errors) - 1)
    assert np.mean(left[8]) < 0.7 * np.mean(left[1])


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(sorted(STRATEGIES)), st.integers(2, 3), st.floats(0, 0.99))
def test_no_strategy_tries_a_plan_above_the_budget_and_all_keep_within_their_evaluations(seed, name, rungs, share):
    """`search` refuses a plan above the budget, whatever the errors are."""
    losses, costs = tables(seed, rungs=rungs)
    kinds = [additive(losses), interacting(losses, seed), jagged(seed), jagged(seed, 0.0), lambda plan: math.nan]
    for errors in kinds:
        found = search(STRATEGIES[name], within(share, losses, costs), errors)
        assert 1 <= len(found.tried) <= BOUNDS[name]


@given(st.integers(0, 10**6), st.sampled_from(SHARES))
def test_linear_and_bisect_go_down_the_ranking_until_the_budget_is_kept(seed, share):
    losses, costs = tables(seed)
    asked = within(share, losses, costs)
    rule = next(plan for plan in asked.prefixes(asked.ranking) if asked.cost(plan) <= asked.budgets[0].most)
    for name in ("linear", "bisect"):
        assert search(STRATEGIES[name], asked, additive(losses)).tried == [rule]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_table_gives_the_same_steps(name):
    losses, costs = tables(3, layers=10)
    runs = [search(STRATEGIES[name], within(0.4, losses, costs), interacting(losses, 3)) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_layer_that_must_not_be_narrowed_is_not_where_the_budget_allows(name):
    losses, costs = tables(5, layers=6)
    losses[2, 1] = math.inf
    found = search(STRATEGIES[name], within(0.6, losses, costs), additive(losses))
    assert found.plan[2] == 0


@pytest.mark.parametrize("name", STRATEGIES)
def test_where_every_plan_within_the_budget_narrows_a_layer_of_boundless_loss_the_cheapest_is_tried(name):
    losses, costs = tables(5, layers=6)
    losses[:, 1] = math.inf
    assert search(STRATEGIES[name], within(0.0, losses, costs), lambda plan: 1.0).tried == [(1,) * 6]


def test_a_table_that_predicts_all_is_not_measured_for_ever():
    losses, costs = tables(8, layers=9)
    assert len(search(knapsack, within(0.5, losses, costs, evaluations=50), additive(losses)).tried) <= 10


@given(st.integers(0, 10**6), st.sampled_from(SHARES), st.sampled_from([1e-9, 1.0, 1e6]))
def test_the_plan_of_least_loss_is_found_whatever_the_losses_are_measured_in(seed, share, unit):
    """Also where one layer's loss dwarfs all that matter."""
    losses, costs = tables(seed, layers=9)
    losses[0, 1] *= 1e6
    asked = within(share, losses * unit, costs)
    errors = additive(losses * unit)
    assert errors(least_losses(asked, asked.losses)[0]) <= 1.005 * least_error(asked, errors)
