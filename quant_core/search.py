"""How far down the ranking the search may go.

A strategy is a generator: it yields how many moves of the ranking to make, is sent whether that plan meets
the target, and returns the number it settles on. Zero moves is the wide plan, which is known to meet it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

__all__ = ["STRATEGIES", "Strategy", "bisect", "linear"]

Strategy = Generator[int, bool, int]


def linear(moves: int) -> Strategy:
    """The documented rule: one more move at a time until the target would be broken."""
    for count in range(1, moves + 1):
        if not (yield count):
            return count - 1
    return moves


def bisect(moves: int) -> Strategy:
    """The same cut in about log2 N steps, given that all moves together miss the target.

    Both sides of the cut have been evaluated: its own plan meets the target, and one more move does not.
    Where loss does not grow with every move, this may be another such cut than the first one.
    """
    meets, misses = 0, moves
    while misses - meets > 1:
        middle = (meets + misses) // 2
        if (yield middle):
            meets = middle
        else:
            misses = middle
    return meets


STRATEGIES: Mapping[str, Callable[[int], Strategy]] = {"bisect": bisect, "linear": linear}
"""Strategies by the name the user gives."""
