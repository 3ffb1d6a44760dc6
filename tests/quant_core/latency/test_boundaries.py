"""Prices of boundaries from times of mixes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from quant_core.latency.boundaries import with_boundaries
from quant_core.latency.mixes import mixes
from quant_core.latency.neighbours import Neighbours, neighbours_of
from quant_core.model.topology import Topology
from quant_core.precision import Precision, PrecisionPlan
from quant_core.search.cost import Boundary, CostModel
from tests.models import build
from tests.quant_core.workbench import bench

WIDE, NARROW = Precision.parse("float32"), Precision.parse("au8w8")
NAMES = [f"layer{at}" for at in range(10)]
PAIRS = [Neighbours(first, second, "writes", 100) for first, second in pairwise(NAMES)]


def model(seed: int = 1) -> tuple[CostModel, CostModel]:
    """What layers take, and the truth, in which boundaries take about as long."""
    random = np.random.default_rng(seed)
    work = dict(zip(NAMES, random.uniform(1, 3, 10), strict=True))
    prices = {(name, one): work[name] * (1.0 if one == WIDE else 0.4) for name in NAMES for one in (WIDE, NARROW)}
    between = tuple(
        Boundary(pair.first, pair.second, {(WIDE, NARROW): 0.5, (NARROW, WIDE): 0.2 + work[pair.first]})
        for pair in PAIRS
    )
    return CostModel("latency", "ms", prices), CostModel("latency", "ms", prices, boundaries=between)


def test_times_of_mixes_tell_what_boundaries_take():
    alone, truth = model()
    random = np.random.default_rng(3)
    seen = [(plan, truth.total(plan) * random.normal(1, 0.01)) for plan in mixes(NAMES, [WIDE, NARROW])]
    cost = with_boundaries(alone, PAIRS, seen)
    others = mixes(NAMES, [WIDE, NARROW], seed=5)
    predicted, right, summed = (np.array([one.total(plan) for plan in others]) for one in (cost, truth, alone))
    assert np.abs(predicted / right - 1).max() < 0.06
    assert np.abs(summed / right - 1).max() > 0.25


def test_plans_of_one_precision_keep_their_time():
    alone, truth = model()
    cost = with_boundaries(alone, PAIRS, [(plan, truth.total(plan)) for plan in mixes(NAMES, [WIDE, NARROW])])
    for precision in (WIDE, NARROW):
        plan = PrecisionPlan.uniform(NAMES, precision)
        assert cost.total(plan) == pytest.approx(alone.total(plan), rel=1e-3)


def test_without_mixes_the_prices_are_those_of_layers():
    alone, _ = model()
    assert with_boundaries(alone, PAIRS, []) is alone


def test_mixes_are_the_same_each_time_and_never_of_one_precision():
    found = mixes(NAMES, [WIDE, NARROW])
    assert found == mixes(NAMES, [WIDE, NARROW])
    assert len({plan.digest for plan in found}) == len(found) >= 15
    assert all(len({precision for _, precision in plan.layers}) == 2 for plan in found)
    assert not mixes(NAMES[:1], [WIDE, NARROW])
    assert not mixes(NAMES, [WIDE])


BLOCK = """(float[N,4,8,8] x) => (float[N,4,8,8] y) {
    [first] a = Conv<pads=[1,1,1,1]>(x, w)
    [relu] r = Relu(a)
    [second] b = Conv<pads=[1,1,1,1]>(r, w2)
    [turn] t = Transpose<perm=[0,1,3,2]>(r)
    [third] c = Conv<pads=[1,1,1,1]>(t, w3)
    [join] y = Add(b, c)
}"""


def test_neighbours_are_those_with_a_tensor_in_common_moved_or_not(tmp_path):
    weights = dict.fromkeys(("w", "w2", "w3"), (4, 4, 3, 3))
    made = bench(build(BLOCK, weights), tmp_path, wide="float32")
    found = neighbours_of(Topology.of(made.graph, made.layers), made.layers)
    assert [(one.first, one.second, one.relation) for one in found] == [
        ("first", "second", "writes"),
        ("first", "third", "writes"),
        ("second", "third", "shares"),
    ]
    assert {one.elements for one in found} == {4 * 8 * 8}
