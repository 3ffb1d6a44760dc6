"""Layers that move together: each group of them is one place of a plan for the strategies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quant_core.search.boundaries import BoundaryCosts
from quant_core.search.space import Candidate

__all__ = ["Units"]


@dataclass(frozen=True)
class Units:
    """A partition of the layers, in the order of the first layer of each group."""

    members: tuple[tuple[int, ...], ...]
    """Numbers of the layers of each group, ascending."""

    @cached_property
    def unit_of(self) -> dict[int, int]:
        """The number of each layer's group."""
        return {layer: unit for unit, layers in enumerate(self.members) for layer in layers}

    def sums(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a table of shape [layers, rungs] says of each group together, shape [units, rungs]."""
        return np.array([table[list(layers)].sum(axis=0) for layers in self.members])

    def boundaries(self, between: BoundaryCosts) -> BoundaryCosts:
        """Return the boundaries between groups: inside one there are none."""
        ends = np.array([[self.unit_of[layer] for layer in pair] for pair in between.ends.tolist()], np.int64)
        apart = [pair for pair, (first, second) in enumerate(ends.reshape(-1, 2).tolist()) if first != second]
        return BoundaryCosts(ends.reshape(-1, 2)[apart], between.costs[apart])

    def rungs(self, choice: Sequence[int]) -> list[int]:
        """Return the rung of each layer in a plan of groups."""
        return [choice[self.unit_of[layer]] for layer in range(len(self.unit_of))]

    def choice(self, rungs: Sequence[int]) -> Candidate | None:
        """Return a plan of layers as one of groups; None where the layers of a group differ."""
        found = [{rungs[layer] for layer in layers} for layers in self.members]
        return tuple(rung for (rung,) in found) if all(len(one) == 1 for one in found) else None
