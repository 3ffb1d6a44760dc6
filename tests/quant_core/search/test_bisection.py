"""The cut by bisection, and the documented rule it is to agree with."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_core.search import Measured, Space, bisect, linear
from tests.quant_core.search.lookup import LIMIT, search

HIT, MISS = 0.5, 2.0


def row_of_plans(errors, losses=None, evaluations=8):
    """A space of one move a layer, in graph order, and the errors of its prefixes."""
    count = len(errors) - 1
    alone = np.zeros((count, 2))
    alone[:, 1] = 1.0 if losses is None else losses[:count]
    wide = {(0,) * count: Measured(True, errors[0])}
    costs = np.tile([1.0, 0.0], (count, 1))
    return Space(alone, costs, tuple((layer, 1) for layer in range(count)), LIMIT, wide, evaluations)


def walk(strategy, errors, losses=None):
    """(moves settled on, numbers of moves evaluated in order), where `errors[n]` is the error of n moves."""
    found = search(strategy, row_of_plans(errors, losses), lambda plan: errors[sum(plan)])
    assert all(plan == tuple(sorted(plan, reverse=True)) for plan in found.tried)
    return sum(found.plan), [sum(plan) for plan in found.tried]


errors_after_the_first = st.floats(0, 2, allow_nan=False) | st.sampled_from([LIMIT, math.inf, math.nan])
any_errors = st.lists(errors_after_the_first, min_size=1, max_size=40).map(lambda rest: [HIT, *rest])
missing_at_the_end = any_errors.map(lambda errors: [*errors, MISS])
any_losses = st.lists(st.floats(0, 2) | st.sampled_from([0.0, math.inf, math.nan]), min_size=42, max_size=42)


@given(any_errors)
def test_linear_stops_at_the_first_move_that_misses(errors):
    settled, tried = walk(linear, errors)
    misses = [moves for moves, error in enumerate(errors) if not error <= LIMIT]
    first_miss = misses[0] if misses else len(errors)
    assert settled == first_miss - 1
    assert tried == list(range(1, min(first_miss, len(errors) - 1) + 1))


@given(missing_at_the_end, any_losses)
def test_bisect_settles_on_a_cut_with_both_sides_known(errors, losses):
    """Whatever the losses promised."""
    settled, tried = walk(bisect, errors, losses)
    assert errors[settled] <= LIMIT
    assert not errors[settled + 1] <= LIMIT
    assert {settled, settled + 1} <= {0, *tried}


@given(missing_at_the_end, any_losses)
def test_bisect_evaluates_few_plans(errors, losses):
    moves = len(errors) - 1
    assert len(walk(bisect, errors, losses)[1]) <= 1 + 3 * math.ceil(math.log2(moves))


@given(st.integers(0, 60), st.integers(1, 60), any_losses)
def test_bisect_finds_the_cut_of_linear_where_error_only_grows(good, bad, losses):
    errors = [HIT] * (good + 1) + [MISS] * bad
    assert walk(bisect, errors, losses * 3)[0] == walk(linear, errors, losses * 3)[0] == good


@given(st.integers(0, 60), st.integers(1, 60))
def test_bisect_halves_where_losses_say_nothing(good, bad):
    errors = [HIT] * (good + 1) + [MISS] * bad
    assert len(walk(bisect, errors, [math.nan] * (good + bad))[1]) <= 1 + math.ceil(math.log2(good + bad))


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=200).filter(lambda losses: sum(losses) > 1.1))
def test_where_errors_add_up_as_losses_do_a_few_steps_are_enough(losses):
    errors = np.concatenate([[0.0], np.cumsum(np.sort(losses))])
    settled, tried = walk(bisect, errors.tolist(), np.sort(losses))
    assert settled == walk(linear, errors.tolist())[0]
    assert len(tried) <= 5


@pytest.mark.parametrize("strategy", [linear, bisect])
def test_nothing_to_decide(strategy):
    assert walk(strategy, [HIT, MISS])[0] == 0


@pytest.mark.parametrize(("strategy", "tried"), [(linear, [1, 2, 3]), (bisect, [3])])
def test_every_move_may_be_made(strategy, tried):
    assert walk(strategy, [HIT] * 4) == (3, tried)


def test_what_is_known_is_not_asked_for():
    given_space = row_of_plans([HIT, HIT, MISS, MISS])
    known = {**given_space.known, (1, 1, 1): Measured(False, MISS), (1, 0, 0): Measured(True, HIT)}
    informed = Space(given_space.losses, given_space.costs, given_space.ranking, LIMIT, known, 8)
    assert search(bisect, informed, lambda plan: [HIT, HIT, MISS, MISS][sum(plan)]).tried == [(1, 1, 0)]
