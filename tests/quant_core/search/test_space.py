"""Plans as tuples of rungs."""

import math

import numpy as np

from quant_core.search import Measured, Space

LOSSES = np.array([[0.0, 1.0, 3.0], [0.0, 2.0, 2.5], [0.0, math.inf, 4.0]])
COSTS = np.array([[8.0, 6.0, 2.0], [4.0, 3.0, 1.0], [2.0, 1.0, 1.0]])


def space(ranking=()):
    return Space(LOSSES, COSTS, ranking, 1.0, {(0, 0, 0): Measured(True, 0.0)}, 8)


def test_costs_and_ends():
    assert (space().wide, space().narrowest) == ((0, 0, 0), (2, 2, 2))
    assert space().cost((1, 2, 0)) == 6 + 1 + 2


def test_a_wider_rung_that_comes_later_changes_nothing():
    plans = space(((0, 1), (1, 2), (1, 1), (0, 2))).prefixes([(0, 1), (1, 2), (1, 1), (0, 2)])
    assert list(plans) == [(0, 0, 0), (1, 0, 0), (1, 2, 0), (2, 2, 0)]
    assert plans.losses.tolist() == [0.0, 1.0, 3.5, 5.5]
    assert (len(plans), plans[-1], plans[1:3]) == (4, (2, 2, 0), [(1, 0, 0), (1, 2, 0)])


def test_moves_by_loss_per_saved_cost():
    """Layer 0: 3 for 6 (0.5) or 1 for 2 (0.5): the longer step of equals. Layer 1: 2.5 for 3. Layer 2: 4 for 1."""
    assert space().efficient_moves() == [(0, 2), (1, 2), (2, 2)]


def test_a_layer_goes_down_rung_by_rung_where_that_is_cheaper():
    losses, costs = np.array([[0.0, 0.1, 3.0], [0.0, 1.0, 1.5]]), np.array([[4.0, 2.0, 1.0], [4.0, 2.0, 1.0]])
    ordered = Space(losses, costs, (), 1.0, {}, 8).efficient_moves()
    assert ordered == [(0, 1), (1, 1), (1, 2), (0, 2)] or ordered == [(0, 1), (1, 2), (0, 2)]
