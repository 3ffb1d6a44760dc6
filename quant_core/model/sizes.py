"""The sizes of a model's tensors, as data have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Sizes"]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model's tensors, as data have them."""

    shapes: tuple[tuple[float, Mapping[str, tuple[int, ...]]], ...]
    """The share of the samples that are of one shape, and the shape of each tensor for one batch of them."""
    batch: int
    """Samples in that batch."""
