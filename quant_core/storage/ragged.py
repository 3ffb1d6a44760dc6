"""Samples of different shape, one after the other in one array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RaggedColumn"]


@dataclass(frozen=True, eq=False)
class RaggedColumn:
    """Samples that are alike in type and rank only."""

    values: NDArray[Any]
    """All samples, flattened, in order."""
    runs: Sequence[tuple[int, tuple[int, ...]]]
    """Numbers of consecutive samples of one shape, and that shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.values.dtype

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each sample."""
        return [shape for count, shape in self.runs for _ in range(count)]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([0, *map(math.prod, self.shapes)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.shapes)

    def sample(self, row: int) -> NDArray[Any]:
        """One sample."""
        return self.values[self._ends[row] : self._ends[row + 1]].reshape(self.shapes[row])

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Samples of one shape, one entry each."""
        return np.stack([self.sample(int(row)) for row in rows])
