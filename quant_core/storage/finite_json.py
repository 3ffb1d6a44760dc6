"""Numbers that are not finite, in JSON, which has no word for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["finite_or_null"]


def finite_or_null(value: Any) -> Any:
    """Return what JSON is made of with None for each number that is not finite, in mappings and lists of any depth."""
    if isinstance(value, Mapping):
        return {name: finite_or_null(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
