from __future__ import annotations

import numpy as np
import pytest

from quant_core.search.boundaries import BoundaryCosts
from quant_core.search.candidates import candidates_of
from quant_core.search.units import Units


def total(costs, between, plan):
    return costs[np.arange(len(plan)), plan].sum() + between.sums(candidates_of([plan], len(plan)))[0]


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_of_groups_costs_what_it_costs_as_a_plan_of_layers(seed):
    random = np.random.default_rng(seed)
    layers, rungs = 8, 3
    group_of = random.integers(0, 4, layers)
    units = Units(tuple(tuple(np.flatnonzero(group_of == one).tolist()) for one in dict.fromkeys(group_of.tolist())))
    costs = random.random((layers, rungs))
    ends = np.array([(first, first + 1) for first in range(layers - 1)])
    prices = random.random((len(ends), rungs, rungs)) * (1 - np.eye(rungs))
    between = BoundaryCosts(ends, prices)
    choice = tuple(random.integers(0, rungs, len(units.members)).tolist())
    plan = units.rungs(choice)
    assert units.choice(plan) == choice
    merged = total(units.sums(costs), units.boundaries(between), choice)
    assert merged == pytest.approx(total(costs, between, plan))


def test_a_plan_that_parts_a_group_is_none_of_groups():
    assert Units(((0, 2), (1,))).choice([0, 1, 1]) is None
