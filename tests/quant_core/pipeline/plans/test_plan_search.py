"""Which plans are tried before a search, and whether there is anything to search for."""

from __future__ import annotations

import pytest

from quant_core.pipeline.plans.plan_search import is_open, try_ends
from tests.quant_core.pipeline.studies import NAMES, study_of

HARMLESS = {(name, "a8w8"): 0.1 for name in NAMES}
FATAL = {(name, "a8w8"): 1.0 for name in NAMES}
FATAL_AT_4_BITS = HARMLESS | {(name, "a8w4"): 1.0 for name in NAMES}


@pytest.mark.parametrize(
    ("losses", "options", "tried", "searched"),
    [
        (HARMLESS, {}, [("a8w8",) * 3], False),
        (FATAL, {}, [("a8w8",) * 3], True),
        (FATAL, {"limit": 0.01}, [], False),
        (HARMLESS, {"search": "linear"}, [], True),
        (HARMLESS, {"search": "bisect", "most_layers": 1}, [], True),
        (HARMLESS, {"kept": ("b",)}, [("a8w8", "a16w8", "a8w8")], False),
        (HARMLESS, {"narrow": ["a8w8", "a8w4"]}, [("a8w8",) * 3, ("a8w4",) * 3], False),
        (FATAL_AT_4_BITS, {"narrow": ["a8w8", "a8w4"]}, [("a8w8",) * 3, ("a8w4",) * 3], True),
        (FATAL, {"max_bops": 1.0}, [], False),
        (FATAL, {"max_bops": 0.7}, [], True),
        (FATAL, {"max_bops": 0.3}, [("a8w8",) * 3], False),
    ],
    ids=[
        "all narrow meets the target",
        "all narrow misses",
        "even wide misses",
        "the linear rule never looks ahead",
        "only so many may be narrow",
        "one layer is to stay wide",
        "down the whole ladder",
        "down the ladder to the rung that misses",
        "wide is within the budget",
        "the budget leaves a choice",
        "nothing is within the budget",
    ],
)
def test_the_ends_are_tried_first(losses, options, tried, searched):
    evaluator = study_of(losses, **options)
    before = len(evaluator.on.asked)
    try_ends(evaluator)
    assert evaluator.on.asked[before:] == tried
    assert is_open(evaluator.study) is searched


def test_where_costs_are_not_in_the_order_of_the_ladder_the_cheapest_plan_is_tried_too():
    evaluator = study_of(HARMLESS | {("a", "a8w4"): 0.1}, narrow=["a8w8", "a8w4"])
    prices = evaluator.study.cost.prices
    narrowest = next(precision for name, precision in prices if str(precision) == "a8w4")
    prices["b", narrowest] = 10**9
    try_ends(evaluator)
    assert evaluator.on.asked[-1] == ("a8w4", "a8w8", "a8w4")
    assert not is_open(evaluator.study)
