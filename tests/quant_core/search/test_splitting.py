from __future__ import annotations

import numpy as np
import pytest

from quant_core.search.budgets import Budget
from quant_core.search.space import Measured, Space
from quant_core.search.splitting import Blocks, Group, price_of_cut, values_of_knowing

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


def values(costs, loss, shares, price=1.0):
    return {layer: gain for gain, layer in values_of_knowing(Group(costs, np.array([0.0, loss]), shares), price)}


def test_it_is_worth_most_to_know_the_layer_that_is_expected_to_lose_most():
    found = values(COSTS, 10.0, np.array([0.1, 0.7, 0.1, 0.1]))
    assert max(found, key=found.get) == 1 and found[1] > 0


@pytest.mark.parametrize("loss", [8.0, 0.01, 1e6], ids=["at-the-cut", "clearly-narrow", "clearly-wide"])
def test_knowing_is_worth_most_where_it_is_open_what_becomes_of_a_group(loss):
    found, at_the_cut = (values(COSTS, one, np.full(4, 0.25))[0] for one in (loss, 8.0))
    assert 0 <= found <= at_the_cut
    assert (found > at_the_cut / 10) == (loss == 8.0)


def test_of_one_layer_nothing_is_to_know_and_of_an_unknown_loss_nothing_is_gained():
    assert values(COSTS[:1], 1.0, np.ones(1)) == {}
    assert set(values(COSTS, np.inf, np.full(4, 0.25)).values()) == {0.0}


BLOCKS = Blocks({("a", "b", "c"): "conv", ("d", "e", "f"): "conv", ("g", "h"): "attention"})
WHOLE = {block: np.array([0.0, 6.0]) for block in BLOCKS.kinds}
APART = {("b",): np.array([0.0, 5.0]), ("a", "c"): np.array([0.0, 1.0]), ("d", "e", "f"): WHOLE["d", "e", "f"]}


def test_groups_of_a_kind_are_expected_to_share_their_losses_out_alike():
    assert set(BLOCKS.expected_shares(WHOLE).values()) == {1.0}
    shares = BLOCKS.expected_shares(APART)
    assert shares["d"] == shares["f"] == pytest.approx((0.25 + 0.25) / 1.25)
    assert shares["e"] == pytest.approx((0.25 + 2.5) / 1.25)
    assert shares["g"] == shares["h"] == 1


def test_what_is_measured_together_is_shared_out_as_other_groups_say():
    """The second group shows that c loses five times what a does, so that of a and c together c has most."""
    further = {("d",): np.array([0.0, 0.5]), ("e",): np.array([0.0, 5.0]), ("f",): np.array([0.0, 2.5])}
    shares = BLOCKS.expected_shares({("b",): APART["b",], ("a", "c"): APART["a", "c"]} | further)
    assert shares["c"] > 2 * shares["a"]


def test_the_first_layer_in_its_place_that_is_measured_alone_tells_of_all_groups_of_the_kind():
    assert BLOCKS.told_of("e", list(WHOLE)) == 2
    assert BLOCKS.told_of("e", list(APART)) == 1
    assert BLOCKS.told_of("d", list(APART)) == 2
    assert BLOCKS.told_of("g", list(WHOLE)) == 1
