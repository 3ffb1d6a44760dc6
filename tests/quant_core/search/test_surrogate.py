"""What is believed of plans that were not measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_core.search import Measured
from quant_core.search.candidates import candidates_of
from quant_core.search.surrogate import Surrogate
from tests.quant_core.search import lookup

SEEDS = st.integers(0, 10_000)


def space_of(seed):
    return lookup.space(*lookup.tables(seed, layers=8))


def some_plans(seed, count=20):
    return candidates_of(np.random.default_rng(seed).integers(0, 2, (count, 8)).tolist(), 8)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_before_anything_is_measured_the_error_is_the_sum_of_the_losses(seed):
    space = space_of(seed)
    plans = some_plans(seed)
    mean, deviation = Surrogate(space, space.known)(plans)
    assert mean == pytest.approx(space.losses[np.arange(8), plans].sum(axis=1))
    assert (deviation >= 0).all()
    assert not deviation[plans.sum(axis=1) == 0].any()  # the wide plan is known


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.floats(0.3, 3))
def test_what_was_measured_is_believed(seed, factor):
    space = space_of(seed)
    error = factor * float(space.losses[:, 1].sum())
    surrogate = Surrogate(space, {**space.known, space.narrowest: Measured(False, error)})
    mean, deviation = surrogate(candidates_of([space.narrowest], 8))
    assert mean[0] == pytest.approx(error, rel=0.05)
    unknown = Surrogate(space, space.known)(candidates_of([space.narrowest], 8))[1]
    assert deviation[0] < unknown[0]


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_a_plan_that_did_worse_than_believed_makes_its_layers_worse_than_others(seed):
    space = space_of(seed)
    half = (1, 1, 1, 1, 0, 0, 0, 0)
    expected = float(space.losses[:4, 1].sum())
    learnt = Surrogate(space, {**space.known, half: Measured(True, 1.5 * expected)}).losses()
    rise = learnt[:, 1] / space.losses[:, 1]
    assert rise[:4].min() >= rise[4:].max() - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_plans_far_beyond_the_limit_whose_errors_do_not_add_up_promise_nothing_for_others(seed):
    """Errors grow ever more slowly; a linear surrogate that keeps to all of them has some plans below the wide one."""
    losses, costs = lookup.tables(seed, layers=8)
    space, half, other = lookup.space(losses * 20, costs), (1, 1, 1, 1, 0, 0, 0, 0), (0, 0, 1, 1, 1, 1, 1, 1)
    measured = {
        plan: Measured(False, float((space.losses[np.arange(8), plan].sum()) ** 0.5))
        for plan in (half, other, space.narrowest)
    }
    mean, _ = Surrogate(space, {**space.known, **measured})(some_plans(seed))
    assert mean.min() >= 0


def test_losses_without_bound_stay_so_and_are_learnt_nothing_from():
    losses, costs = lookup.tables(1, layers=4)
    losses[2, 1] = np.inf
    space = lookup.space(losses, costs)
    surrogate = Surrogate(
        space, {**space.known, (0, 0, 1, 0): Measured(False, np.inf), (1, 0, 0, 0): Measured(True, 0.2)}
    )
    assert np.isinf(surrogate.losses()[2, 1])
    assert np.isfinite(surrogate.losses()[[0, 1, 3], 1]).all()


def test_a_loss_that_is_only_expected_is_doubted_more():
    space = space_of(1)
    plans = candidates_of([tuple(int(layer == at) for layer in range(8)) for at in (0, 1)], 8)
    doubted = replace(space, expected=frozenset({1}))
    before, after = (Surrogate(one, one.known)(plans)[1] for one in (space, doubted))
    assert after[0] == before[0] and after[1] > before[1]
