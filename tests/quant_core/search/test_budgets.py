"""Several budgets at once, against brute force over all plans of up to eight layers."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quant_core.search import STRATEGIES, Budget, greedy, knapsack
from quant_core.search.budgets import even, mixed, plan_within
from tests.quant_core.search.lookup import additive, interacting, jagged, least_error, search, space, tables

BOUNDS = {"linear": 1, "bisect": 1, "knapsack": 12, "greedy": 1 + 12}


def asked(seed, count, evaluations=12):
    """A space with so many budgets of unlike costs, each of which leaves plans; they need not leave one together."""
    random = np.random.default_rng(seed)
    layers, rungs = (int(random.integers(2, 9)), 2) if seed % 2 else (int(random.integers(2, 7)), 3)
    losses, _ = tables(seed, layers=layers, rungs=rungs)
    budgets = []
    for _ in range(count):
        costs = tables(int(random.integers(10**6)), layers=layers, rungs=rungs)[1]
        narrow, wide = costs.min(axis=1).sum(), costs[:, 0].sum()
        budgets.append(Budget(narrow + random.uniform(0.05, 0.9) * (wide - narrow), costs))
    costs, _ = mixed(budgets, even(count))
    return space(losses, costs, evaluations, budgets=tuple(budgets))


def jumbled(seed, count):
    """The same, where a narrower rung may cost more by one of the costs, as it may in time."""
    made, random = asked(seed, count), np.random.default_rng(seed)
    last = made.budgets[-1]
    costs = np.ceil(random.lognormal(5, 1, last.costs.shape))
    most = costs.min(axis=1).sum() * random.uniform(1.0, 1.6)
    budgets = (*made.budgets[:-1], Budget(most, costs))
    return space(made.losses, mixed(budgets, even(count))[0], 12, budgets=budgets)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("strategy", [knapsack, greedy], ids=lambda strategy: strategy.__name__)
def test_within_all_budgets_the_error_is_within_two_percent_of_the_least(strategy, count):
    for seed in range(40):
        made = asked(seed, count)
        errors = additive(made.losses)
        found = errors(search(strategy, made, errors).plan)
        assert found <= 1.02 * least_error(made, errors) + 1e-12, seed


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(sorted(STRATEGIES)), st.integers(2, 3))
def test_no_strategy_tries_a_plan_above_any_of_the_budgets(seed, name, count):
    """`search` refuses a plan above one of them, whatever the errors are."""
    made = asked(seed, count)
    for errors in [additive(made.losses), interacting(made.losses, seed), jagged(seed), lambda plan: math.nan]:
        assert 1 <= len(search(STRATEGIES[name], made, errors).tried) <= BOUNDS[name]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 3))
def test_where_some_plan_is_within_all_budgets_one_is_found(seed, count):
    made = jumbled(seed, count)
    layers, rungs = made.losses.shape
    assume(any(made.affordable(plan) for plan in product(range(rungs), repeat=layers)))
    assert made.affordable(plan_within(made.budgets))
