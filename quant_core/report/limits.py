"""How much of a run the page shows: a page of 100,000 layers must stay one that a browser opens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

__all__ = ["LISTED", "NAME_LENGTH", "PLANS", "POINTS", "ROWS", "TENSORS", "foremost", "short"]

ROWS = 1000
"""Layers in the table of layers."""
POINTS = 4000
"""Probes in the chart of losses."""
PLANS = 500
"""Plans in the search curve."""
TENSORS = 1500
"""Tensors whose histogram can be chosen."""
LISTED = 200
"""Names in any other list."""
NAME_LENGTH = 160
"""Characters of a name."""

_Item = TypeVar("_Item")


def foremost(items: Sequence[_Item], limit: int, weight: Callable[[_Item], Any]) -> list[_Item]:
    """The `limit` items of greatest weight, in the order they were in."""
    if len(items) <= limit:
        return list(items)
    kept = sorted(range(len(items)), key=lambda index: weight(items[index]), reverse=True)[:limit]
    return [items[index] for index in sorted(kept)]


def short(name: str) -> str:
    """A name, with its middle left out if it is very long."""
    half = NAME_LENGTH // 2 - 1
    return name if len(name) <= NAME_LENGTH else f"{name[:half]} … {name[-half:]}"
