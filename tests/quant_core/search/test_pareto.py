"""Plans along the whole curve, over models that are nothing but a table."""

import numpy as np
import pytest

from quant_core.search import non_dominated, pareto_curve
from tests.quant_core.search import lookup


def table(seed, layers=10, rungs=2):
    random = np.random.default_rng(seed)
    losses = np.cumsum(random.lognormal(-3, 1.5, (layers, rungs)), axis=1)
    costs = np.cumsum(random.uniform(1, 9, (layers, rungs + 1)), axis=1)[:, ::-1]
    return np.concatenate([np.zeros((layers, 1)), losses], axis=1), costs


def followed(losses, costs, evaluations):
    space = lookup.space(losses, costs, evaluations)
    errors = lookup.additive(losses)
    found = lookup.search(pareto_curve, space, errors).tried
    return space, errors, found


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_covered_without_wide_gaps(seed):
    space, errors, tried = followed(*table(seed), evaluations=16)
    costs = [space.cost(plan) for plan in tried]
    kept = non_dominated(costs, [errors(plan) for plan in tried])
    assert len(kept) >= 8
    held = sorted(costs[place] for place in kept)
    assert max(np.diff(held)) <= 0.35 * (held[-1] - held[0])


def test_no_plan_is_measured_twice_and_the_evaluations_are_a_bound():
    _, _, tried = followed(*table(7), evaluations=6)
    assert len(tried) == len(set(tried)) and len(tried) <= 6 + 2


def test_the_same_table_gives_the_same_plans():
    assert followed(*table(3), evaluations=9)[2] == followed(*table(3), evaluations=9)[2]


def test_non_dominated_points_are_those_that_brute_force_keeps():
    random = np.random.default_rng(0)
    points = random.integers(0, 12, (40, 2)).tolist()
    kept = non_dominated(*zip(*points, strict=True))
    beaten = [
        any((a <= c and b <= d and (a, b) != (c, d)) or ((a, b) == (c, d) and i < j) for i, (a, b) in enumerate(points))
        for j, (c, d) in enumerate(points)
    ]
    assert sorted(kept) == [place for place, is_beaten in enumerate(beaten) if not is_beaten]
    assert non_dominated([1.0, 2.0], [float("nan"), 1.0]) == [1]
