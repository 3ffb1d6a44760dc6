"""Which layer of a group is worth a probe of its own, by what is expected of knowing it.

Layers of a group are measured together. Were the loss of one of them known, it and the others could each go their own
way. What that is worth is counted at the price of the cut: the loss that a search pays there for a unit of cost. How
the loss is shared out is not known beforehand, so that the value is an expectation (value of information; Howard,
Information Value Theory, 1966). What is found in one group tells of all groups of the same kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import candidates_of, sums
from quant_core.search.space import Space
from quant_core.search.surrogate import Surrogate

__all__ = ["Blocks", "Group", "price_of_cut", "values_of_knowing"]

Array = NDArray[np.float64]
Part = tuple[str, ...]
"""Names of layers that were measured together, or of one that was measured alone."""

_SHARES = (np.arange(64) + 0.5) / 64
"""Shares that an expectation is a sum over."""
_CONFIDENCE = 2.0
"""How narrow the distribution of a share is about its mean: the sum of both parameters of a beta distribution."""
_MOST_CERTAIN = 1 / 50
"""A share is never taken to be nearer to 0 or to 1, on average."""
_PRIOR = 0.25
"""Groups that it counts for that all layers of a kind may lose the same."""
_ROUNDS = 10
"""How often what is known of a kind says how its parts share their losses out, which says more of the kind."""


@dataclass(frozen=True)
class Group:
    """Layers that move together."""

    costs: Array
    """Of each layer on each rung, shape [layers, rungs]."""
    losses: Array
    """Of all layers together on each rung, shape [rungs]; infinite where it is not known."""
    shares: Array
    """The part of the loss that each layer is expected to have, shape [layers]; their sum is 1."""


@dataclass(frozen=True)
class Blocks:
    """Groups of layers as they were before any was parted, and of what kind each is."""

    kinds: Mapping[Part, Hashable]
    """By the names of its layers; groups of a kind have layers alike in the same places."""

    @cached_property
    def block_of(self) -> Mapping[str, Part]:
        """The group of each layer."""
        return {name: block for block in self.kinds for name in block}

    def kind_of(self, name: str) -> Hashable:
        """Return the kind of a layer's group."""
        return self.kinds[self.block_of[name]]

    def _alike(self, kind: Hashable) -> list[Part]:
        return [block for block, own in self.kinds.items() if own == kind]

    def told_of(self, name: str, parts: Sequence[Part]) -> int:
        """Return of how many groups it tells something to measure a layer alone.

        These are all of its kind, as long as none of the layers in that place was measured so.
        """
        place, alike = self.block_of[name].index(name), self._alike(self.kind_of(name))
        alone = {part[0] for part in parts if len(part) == 1}
        return 1 if any(block[place] in alone for block in alike) else len(alike)

    def expected_shares(self, losses: Mapping[Part, Array]) -> dict[str, float]:
        """Return how much each layer is expected to lose, over the mean of its group.

        That is its mean in the groups of the kind that were parted. Layers that were measured together share their
        loss out as this says.

        Args:
            losses: Losses by rung, of groups and of parts of them.

        """
        shares: dict[str, float] = {}
        for kind in dict.fromkeys(self.kinds.values()):
            alike = self._alike(kind)
            parted = [found for block in alike if len(found := [one for one in losses if one[0] in block]) > 1]
            mean = np.ones(len(alike[0]))
            for _ in range(_ROUNDS):
                seen = (_relative_losses(self.block_of[parts[0][0]], parts, losses, mean) for parts in parted)
                mean = sum(seen, np.full(len(mean), _PRIOR)) / (_PRIOR + len(parted))
            shares |= {name: share for block in alike for name, share in zip(block, mean.tolist(), strict=True)}
        return shares


def _relative_losses(block: Part, parts: Sequence[Part], losses: Mapping[Part, Array], mean: Array) -> Array:
    """Return what each layer loses over the mean of its group, where those of a part share its loss out as `mean`."""
    expected = dict(zip(block, mean.tolist(), strict=True))
    totals = {part: sum(expected[name] for name in part) for part in parts}
    of_layer = {name: losses[part] * expected[name] / totals[part] for part in parts for name in part}
    table = np.array([of_layer[name] for name in block])
    usable = table[:, np.isfinite(table).all(axis=0) & (table.sum(axis=0) > 0)]
    return np.asarray((usable / usable.mean(axis=0)).mean(axis=1)) if usable.size else np.ones(len(block))


def price_of_cut(space: Space) -> float:
    """Return the loss per saved cost of the move that breaks the target, or leads within the budgets.

    Moves are taken in ascending order of that. 0 where no move saves anything.
    """
    prefixes = space.prefixes(space.efficient_moves())
    costs, losses = sums(space.costs, candidates_of(list(prefixes), len(space.losses))), prefixes.losses
    if space.budgets:
        after = np.flatnonzero(space.are_affordable(candidates_of(list(prefixes), len(space.losses))))
    else:
        room = space.limit - space.known[space.wide].error
        after = np.flatnonzero(losses * Surrogate(space, space.known).factor > room)
    last = int(after[0]) if len(after) else len(prefixes) - 1
    return float((losses[last] - losses[last - 1]) / (costs[last - 1] - costs[last])) if last else 0.0


def values_of_knowing(group: Group, price: float) -> Iterator[tuple[float, int]]:
    """Yield what it is expected to save to know what each layer loses, and its number; none where there is but one.

    What is saved is a cost, less what is lost at the price.
    """
    count = len(group.shares) if len(group.shares) > 1 else 0
    together = float(_values(group.costs.sum(axis=0), group.losses, np.ones(1), price)[0])
    for layer in range(count):
        own = group.costs[layer]
        apart = _values(own, group.losses, _SHARES, price)
        apart = apart + _values(group.costs.sum(axis=0) - own, group.losses, 1 - _SHARES, price)
        yield float(_chances(float(group.shares[layer])) @ apart) - together, layer


def _values(costs: Array, losses: Array, shares: Array, price: float) -> Array:
    """Return what layers save on their best rung, less what they lose, for each share that they have of the losses."""
    return np.asarray((costs[0] - costs - np.multiply.outer(shares, losses / price)).max(axis=1))


def _chances(mean: float) -> Array:
    """Return how likely each of `_SHARES` is, by a beta distribution."""
    mean = min(max(mean, _MOST_CERTAIN), 1 - _MOST_CERTAIN)
    first, second = _CONFIDENCE * mean, _CONFIDENCE * (1 - mean)
    density = _SHARES ** (first - 1) * (1 - _SHARES) ** (second - 1)
    return np.asarray(density / density.sum())
