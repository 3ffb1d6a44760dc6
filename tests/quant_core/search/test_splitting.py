from __future__ import annotations

import numpy as np
import pytest

from quant_core.search.budgets import Budget
from quant_core.search.space import Measured, Space
from quant_core.search.splitting import Group, best_split, expected_shares, price_of_cut

COSTS = np.array([[4.0, 2.0], [4.0, 2.0], [4.0, 2.0], [4.0, 2.0]])
"""Of four layers on two rungs."""


def space(**changes):
    """Layers that lose 1, 2, 3 and 4 where 3 is allowed; two narrow ones lose that, so that the third breaks it."""
    losses = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])
    known = {(0, 0, 0, 0): Measured(True, 0.0), (1, 1, 0, 0): Measured(True, 3.0)}
    given = {"losses": losses, "costs": COSTS, "ranking": (), "limit": 3.0, "known": known, "evaluations": 4}
    return Space(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "price"),
    [
        ({}, 3 / 2),
        ({"limit": 1.0}, 2 / 2),
        ({"limit": 100.0}, 4 / 2),
        ({"budgets": (Budget(15.0, COSTS),)}, 1 / 2),
        ({"costs": np.ones((4, 2))}, 0.0),
    ],
    ids=["third-breaks-it", "second-breaks-it", "none-breaks-it", "budget", "nothing-to-save"],
)
def test_the_price_is_that_of_the_move_at_the_cut(changes, price):
    assert price_of_cut(space(**changes)) == pytest.approx(price)


def test_the_layers_expected_to_lose_most_are_parted_from_the_others():
    gain, part = best_split(Group(COSTS, np.array([0.0, 10.0]), np.array([0.1, 0.7, 0.1, 0.1])), price=1.0)
    assert part == (1,) and gain > 0


@pytest.mark.parametrize("loss", [8.0, 0.01, 1e6], ids=["at-the-cut", "clearly-narrow", "clearly-wide"])
def test_a_split_is_worth_most_where_it_is_open_what_becomes_of_a_group(loss):
    shares = np.full(4, 0.25)
    gain, _ = best_split(Group(COSTS, np.array([0.0, loss]), shares), price=1.0)
    at_the_cut, _ = best_split(Group(COSTS, np.array([0.0, 8.0]), shares), price=1.0)
    assert 0 <= gain <= at_the_cut
    assert (gain > at_the_cut / 10) == (loss == 8.0)


def test_one_layer_has_no_parts_and_an_unknown_loss_none_either():
    assert best_split(Group(COSTS[:1], np.array([0.0, 1.0]), np.ones(1)), price=1.0) == (0.0, ())
    assert best_split(Group(COSTS, np.array([0.0, np.inf]), np.full(4, 0.25)), price=1.0) == (0.0, ())


def test_groups_of_a_kind_are_expected_to_share_their_losses_out_alike():
    kinds = {("a", "b", "c"): "conv", ("d", "e", "f"): "conv", ("g", "h"): "attention"}
    before = {group: np.array([0.0, 6.0]) for group in kinds}
    assert set(expected_shares(kinds, before).values()) == {1.0}
    after = before | {("b",): np.array([0.0, 5.0]), ("a", "c"): np.array([0.0, 1.0])}
    del after["a", "b", "c"]
    shares = expected_shares(kinds, after)
    assert shares["d"] == shares["f"] == pytest.approx((1 + 0.25) / 2) and shares["e"] == pytest.approx((1 + 2.5) / 2)
    assert shares["g"] == shares["h"] == 1
