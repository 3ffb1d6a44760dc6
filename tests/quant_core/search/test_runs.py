"""Plans in runs: the cheapest for each number of boundaries, and those that are worth trying."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from quant_core.search.greedy import greedy
from quant_core.search.runs import cheapest_runs, in_runs, merits
from quant_core.search.space import Measured
from tests.quant_core.search.lookup import LIMIT, additive, search, space, tables

CHAIN = [(at, at + 1) for at in range(6)]
FORK = [(0, 1), (0, 2), (1, 2), (1, 4), (2, 3), (3, 4), (4, 5), (5, 6)]
"""Pairs of an attention block and what follows it."""


def boundaries(plan, pairs):
    return sum(plan[first] != plan[second] for first, second in pairs)


@pytest.mark.parametrize("pairs", [CHAIN, FORK, []], ids=["chain", "fork", "none"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rungs", [2, 3])
def test_the_plans_are_the_cheapest_of_all_for_their_boundaries(seed, pairs, rungs):
    """Sums of losses are rounded, so that plans near the capacity may be missed, or be a little above it."""
    random = np.random.default_rng(seed)
    losses = np.cumsum(np.hstack([np.zeros((7, 1)), random.uniform(0, 1, (7, rungs - 1))]), axis=1)
    costs = np.cumsum(random.uniform(0.5, 1.5, (7, rungs)), axis=1)[:, ::-1]
    capacity, most, rows = 3.0, 3, np.arange(7)
    found = cheapest_runs(losses, costs, np.array(pairs).reshape(-1, 2), capacity, most)
    assert all(boundaries(plan, pairs) <= most for plan in found)
    every = [np.array(plan) for plan in product(range(rungs), repeat=7)]
    for count in range(most + 1):
        allowed = [costs[rows, plan].sum() for plan in found if boundaries(plan, pairs) <= count]
        inside = [
            costs[rows, plan].sum()
            for plan in every
            if boundaries(plan, pairs) <= count and losses[rows, plan].sum() < 0.98 * capacity
        ]
        assert min(allowed) <= min(inside) + 1e-9


def test_a_loss_that_is_not_known_is_never_taken():
    losses = np.array([[0.0, np.inf], [0.0, 1.0]])
    found = cheapest_runs(losses, np.array([[2.0, 1.0], [2.0, 1.0]]), np.array([(0, 1)]), 5.0, 1)
    assert found.tolist() == [[0, 0], [0, 1]]


def test_plans_are_compared_by_boundaries_as_long_as_they_cost_about_the_least():
    costs, counts = np.array([100.0, 102.0, 101.0, 103.0]), np.array([5, 2, 2, 0])
    assert np.argsort(merits(costs, counts, 100.0)).tolist() == [2, 1, 0, 3]
    assert np.isinf(merits(costs, counts, 100.0)[3])
    assert merits(np.zeros(2), np.array([1, 0]), 0.0).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(8))
def test_boundaries_fall_and_the_cost_stays_within_the_allowance(seed):
    losses, costs = tables(seed, 14)
    given, errors, pairs = space(losses, costs), additive(losses), np.array([(at, at + 1) for at in range(13)])
    tried = [given.wide, *search(greedy, given, errors).tried]
    before = {plan: Measured(errors(plan) <= LIMIT, errors(plan)) for plan in tried}
    further = search(lambda one: in_runs(one, pairs), replace(given, known=before), errors).tried
    met = [plan for plan in [*before, *further] if errors(plan) <= LIMIT]
    least = min(map(given.cost, met))
    cheapest = min(before, key=lambda plan: (errors(plan) > LIMIT, given.cost(plan)))
    chosen = min(met, key=lambda plan: merits(np.array([given.cost(plan)]), boundaries(plan, pairs), least)[0])
    assert given.cost(chosen) <= 1.025 * least and not set(further) & set(before)
    assert boundaries(chosen, pairs) <= boundaries(cheapest, pairs)


@pytest.mark.parametrize(("saved", "tried"), [(0.2, []), (0.5, [(1, 1)])], ids=["too little", "enough"])
def test_a_plan_with_as_many_boundaries_is_tried_where_it_saves_a_tenth_of_the_allowance(saved, tried):
    losses, costs = np.array([[0.0, 0.5], [0.0, 0.1]]), np.array([[150.0, 90.0], [10.0, 10.0 - saved]])
    asked = space(losses, costs)
    asked = replace(asked, known=asked.known | {(1, 0): Measured(True, 0.5)})
    pairs = np.zeros((0, 2), np.int64)
    assert search(lambda one: in_runs(one, pairs), asked, additive(losses)).tried == tried
