"""Timing calls against each other."""

from __future__ import annotations

import time

from quant_core.latency.timing import timed


def test_what_takes_longer_is_seen_to():
    short, long = timed([lambda: time.sleep(0.002), lambda: time.sleep(0.01)], 0.03)
    assert 2 <= short.fastest < long.fastest
    assert long.fastest >= 10
    assert long.median >= long.fastest
    assert long.turns == short.turns >= 5


def test_calls_are_made_turn_about():
    order: list[str] = []

    def call(name: str) -> None:
        order.append(name)
        time.sleep(0.002)

    timed([lambda: call("a"), lambda: call("b")], 0.0)
    assert "".join(order).endswith("ab" * 5)
