"""The strategies, against all the answers written down in advance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_core.search import STRATEGIES, Bounds, Measured, bisect, linear

LIMIT = 1.0
HIT, MISS = 0.5, 2.0


def walk(strategy, errors, losses=None):
    """(moves settled on, moves evaluated in order), where `errors[n]` is the error of n moves."""
    losses = [1.0] * (len(errors) - 1) if losses is None else losses
    steps, tried = strategy(Bounds(list(losses), errors[0], errors[-1], LIMIT)), []
    try:
        moves = next(steps)
        while True:
            tried.append(moves)
            moves = steps.send(Measured(errors[moves] <= LIMIT, errors[moves]))
    except StopIteration as stop:
        return stop.value, tried


errors_after_the_first = st.floats(0, 2, allow_nan=False) | st.sampled_from([LIMIT, math.inf, math.nan])
any_errors = st.lists(errors_after_the_first, max_size=40).map(lambda rest: [HIT, *rest])
missing_at_the_end = any_errors.map(lambda errors: [*errors, MISS])
any_losses = st.lists(st.floats(0, 2) | st.sampled_from([0.0, math.inf, math.nan]), min_size=41, max_size=41)


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
    settled, tried = walk(bisect, errors, losses[: len(errors) - 1])
    assert errors[settled] <= LIMIT
    assert not errors[settled + 1] <= LIMIT
    assert {settled, settled + 1} <= {0, len(errors) - 1, *tried}


@given(missing_at_the_end, any_losses)
def test_bisect_evaluates_no_plan_twice_and_few_at_all(errors, losses):
    moves = len(errors) - 1
    _, tried = walk(bisect, errors, losses[:moves])
    assert len(set(tried)) == len(tried) <= 3 * math.ceil(math.log2(moves))
    assert all(0 < step < moves for step in tried)


@given(st.integers(0, 60), st.integers(1, 60), any_losses)
def test_bisect_finds_the_cut_of_linear_where_error_only_grows(good, bad, losses):
    errors = np.sort([HIT] * (good + 1) + [MISS] * bad).tolist()
    losses = (losses * 3)[: good + bad]
    assert walk(bisect, errors, losses)[0] == walk(linear, errors, losses)[0] == good


@given(st.integers(0, 100), st.integers(1, 100))
def test_bisect_halves_where_losses_say_nothing(good, bad):
    errors = [HIT] * (good + 1) + [MISS] * bad
    assert len(walk(bisect, errors, [math.nan] * (good + bad))[1]) <= math.ceil(math.log2(good + bad))


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=200).filter(lambda losses: sum(losses) > 1.1))
def test_where_errors_add_up_as_losses_do_a_few_steps_are_enough(losses):
    errors = np.concatenate([[0.0], np.cumsum(np.sort(losses))])
    settled, tried = walk(bisect, errors.tolist(), np.sort(losses))
    assert settled == walk(linear, errors.tolist())[0]
    assert len(tried) <= 4


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("errors", [[HIT], [HIT, MISS]], ids=["no move", "one that misses"])
def test_nothing_to_decide(name, errors):
    assert walk(STRATEGIES[name], errors)[0] == 0


def test_linear_may_make_every_move():
    assert walk(linear, [HIT] * 4) == (3, [1, 2, 3])
