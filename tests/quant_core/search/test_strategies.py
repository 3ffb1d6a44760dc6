"""Every strategy against brute force, over all subsets of up to a dozen layers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_core.search import STRATEGIES, Measured, bisect, greedy, knapsack, linear
from tests.quant_core.search.lookup import additive, cheapest, interacting, jagged, search, space, tables


def saved(given_space, cost):
    return given_space.cost(given_space.wide) - cost


@pytest.mark.parametrize("rungs", [2, 3])
@pytest.mark.parametrize("strategy", [knapsack, greedy], ids=lambda strategy: strategy.__name__)
def test_on_additive_tables_the_search_is_within_two_percent_of_the_optimum(strategy, rungs):
    for seed in range(60 if rungs == 2 else 25):
        losses, costs = tables(seed, rungs=rungs)
        asked = space(losses, costs, evaluations=12)
        found = search(strategy, asked, additive(losses))
        optimum = saved(asked, cheapest(asked, additive(losses)))
        assert saved(asked, found.cost) >= 0.98 * optimum, seed


def test_where_losses_are_expected_plans_find_what_probes_would_have_shown():
    """Of three layers that were measured together each is taken to lose half its own loss, and half their mean."""
    gaps = []
    for seed in range(40):
        losses, costs = tables(seed, layers=12)
        means = losses.reshape(4, 3, 2).mean(axis=1).repeat(3, axis=0)
        asked = replace(space((losses + means) / 2, costs, evaluations=16), expected=frozenset(range(12)))
        least = cheapest(asked, additive(losses))
        gaps.append(search(knapsack, asked, additive(losses)).cost / least - 1)
    assert np.mean(gaps) < 0.003


@pytest.mark.parametrize(("saving", "tried"), [(2.0, [(1, 1)]), (0.2, [])], ids=["1 in 250", "1 in 2,500"])
def test_a_plan_is_tried_for_a_thousandth_of_what_can_be_saved(saving, tried):
    losses, costs = np.array([[0.0, 0.5], [0.0, 0.1]]), np.array([[1000.0, 500.0], [4.0, 4.0 - saving]])
    asked = space(losses, costs)
    known = replace(asked, known=asked.known | {(1, 0): Measured(True, 0.5)})
    assert search(knapsack, known, additive(losses)).tried == tried


@pytest.mark.parametrize("strategy", [knapsack, greedy], ids=lambda strategy: strategy.__name__)
def test_going_on_saves_more_than_the_documented_rule(strategy):
    gains = []
    for seed in range(40):
        losses, costs = tables(seed, layers=12)
        asked = space(losses, costs)
        errors = interacting(losses, seed, 0.3)
        ours, theirs = (saved(asked, search(one, asked, errors).cost) for one in (strategy, linear))
        gains.append((ours - theirs) / saved(asked, asked.cost(asked.narrowest)))
    assert np.mean(gains) > 0.05 and np.quantile(gains, 0.1) >= 0


def kinds_of_errors(losses, seed):
    return [additive(losses), interacting(losses, seed), jagged(seed), jagged(seed, 1.0), lambda plan: math.nan]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(sorted(STRATEGIES)), st.integers(2, 3))
def test_no_strategy_settles_on_a_plan_that_misses_and_all_keep_within_their_evaluations(seed, name, rungs):
    losses, costs = tables(seed, rungs=rungs)
    for errors in kinds_of_errors(losses, seed):
        asked = space(losses, costs, evaluations=5)
        found = search(STRATEGIES[name], asked, errors)
        assert found.plan == asked.wide or errors(found.plan) <= asked.limit
        moves = losses.size - len(losses)
        bound = {"linear": moves, "bisect": 1 + 3 * math.ceil(math.log2(moves)), "knapsack": 5}
        bound["greedy"] = bound["bisect"] + bound["knapsack"]
        assert len(found.tried) <= bound[name]


@given(st.integers(0, 10**6))
def test_bisect_equals_linear_on_monotone_tables(seed):
    losses, costs = tables(seed)
    asked = space(losses, costs)
    assert search(bisect, asked, additive(losses)).plan == search(linear, asked, additive(losses)).plan


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_table_gives_the_same_steps(name):
    losses, costs = tables(3, layers=10)
    runs = [search(STRATEGIES[name], space(losses, costs), interacting(losses, 3)) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_layer_that_must_not_be_narrowed_is_not(name):
    losses, costs = tables(5, layers=6)
    losses[2, 1] = math.inf
    found = search(STRATEGIES[name], space(losses, costs), additive(losses))
    assert found.plan[2] == 0 and (name != "knapsack" or all(plan[2] == 0 for plan in found.tried))


def test_the_search_ends_when_nothing_is_left_to_gain():
    losses, costs = np.array([[0.0, 0.1], [0.0, 5.0]]), np.array([[2.0, 1.0], [2.0, 1.0]])
    assert len(search(knapsack, space(losses, costs, evaluations=50), additive(losses)).tried) <= 3
