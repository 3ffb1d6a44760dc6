"""The search strategies, against tables of what each prefix would score."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_core.search import STRATEGIES, Bounds, Measured


def settle(strategy, errors, limit, losses=None):
    """Run a strategy on the error of each prefix; where it settles and which prefixes it looked at."""
    losses = [1.0] * (len(errors) - 1) if losses is None else losses
    running = STRATEGIES[strategy](Bounds(losses, errors[0], errors[-1], limit))
    looked = []
    try:
        step = next(running)
        while True:
            looked.append(step)
            step = running.send(Measured(errors[step] <= limit, errors[step]))
    except StopIteration as stop:
        return stop.value, looked


def rule(errors, limit):
    """The documented rule: narrow in order until the target is about to be broken."""
    return next((k for k in range(len(errors) - 1) if errors[k + 1] > limit), len(errors) - 1)


monotone = st.lists(st.floats(0, 1e6), min_size=2, max_size=200).map(lambda steps: list(np.cumsum([0.0, *steps])))


@given(monotone, st.floats(0, 1))
def test_linear_is_the_rule(errors, share):
    limit = errors[-1] * share
    assert settle("linear", errors, limit)[0] == rule(errors, limit)


@given(monotone, st.floats(0, 0.999), st.randoms())
def test_bisect_equals_the_rule_on_monotone_tables_whatever_the_losses_say(errors, share, random):
    limit = errors[-1] * share
    if errors[-1] <= limit:
        return
    losses = [random.random() for _ in errors[1:]]
    found, looked = settle("bisect", errors, limit, losses)
    assert found == rule(errors, limit)
    assert len(looked) <= 2 * math.log2(len(losses)) + 2


@pytest.mark.parametrize("moves", [2, 3, 50, 1000])
def test_bisect_evaluates_both_sides_of_the_cut(moves):
    errors = list(range(moves + 1))
    found, looked = settle("bisect", errors, moves / 2)
    assert {found, found + 1} - {0, moves} <= set(looked)


def test_bisect_needs_two_steps_when_errors_add_up_as_losses_do():
    losses = [float(2**k) for k in range(20)]
    errors = list(itertools.accumulate(losses, initial=7.0))
    assert len(settle("bisect", errors, 1000.0, losses)[1]) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_bisect_copes_with_an_error_that_is_no_number(bad):
    errors = [0.0, 1.0, bad, bad, bad]
    assert settle("bisect", errors, 1.5)[0] == 1


@given(st.lists(st.floats(0, 10), min_size=3, max_size=40), st.floats(0, 10))
def test_no_strategy_settles_on_a_plan_that_misses_on_any_table(errors, limit):
    errors = [0.0, *errors]
    for strategy in STRATEGIES:
        if strategy == "bisect" and errors[-1] <= limit:
            continue
        found, looked = settle(strategy, errors, limit)
        assert found == 0 or (errors[found] <= limit and found in looked)
