"""Which part of a group of layers is worth a probe of its own, by what is expected of knowing it.

Layers of a group move together, at what they lose together. Were the losses of two parts known, each could go its own
way. What that is worth is counted at the price of the cut: the loss that a search pays there for a unit of cost. How
the loss is shared out between the parts is not known beforehand, so that the value is an expectation (value of
information; Howard, Information Value Theory, 1966).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import candidates_of, sums
from quant_core.search.space import Space
from quant_core.search.surrogate import Surrogate

__all__ = ["Group", "best_split", "expected_shares", "price_of_cut"]

Array = NDArray[np.float64]

_SHARES = (np.arange(64) + 0.5) / 64
"""Shares that an expectation is a sum over."""
_CONFIDENCE = 4.0
"""How narrow the distribution of a share is about its mean: the sum of both parameters of a beta distribution."""
_MOST_CERTAIN = 1 / 50
"""A share is never taken to be nearer to 0 or to 1, on average."""


@dataclass(frozen=True)
class Group:
    """Layers that move together."""

    costs: Array
    """Of each layer on each rung, shape [layers, rungs]."""
    losses: Array
    """Of all layers together on each rung, shape [rungs]; infinite where it is not known."""
    shares: Array
    """The part of the loss that each layer is expected to have, shape [layers]; their sum is 1."""


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


def expected_shares(
    kinds: Mapping[tuple[str, ...], Hashable], losses: Mapping[tuple[str, ...], Array]
) -> dict[str, float]:
    """Return how much each layer is expected to lose, over the mean of its group.

    That is its mean in the groups of the same kind that were split; one more counts in which all layers lose the same.

    Args:
        kinds: What kind each group is of, as it was before any split, by the names of its layers.
        losses: Losses by rung, of groups and of parts of them, by the names of their layers.

    """
    found: dict[Hashable, list[Array]] = {}
    for group, kind in kinds.items():
        parts = [part for part in losses if part[0] in group]
        if len(parts) > 1:
            found.setdefault(kind, []).append(_relative_losses(group, parts, losses))
    shares: dict[str, float] = {}
    for group, kind in kinds.items():
        mean = np.mean([np.ones(len(group)), *found.get(kind, [])], axis=0)
        shares |= dict(zip(group, mean.tolist(), strict=True))
    return shares


def _relative_losses(
    group: Sequence[str], parts: Sequence[tuple[str, ...]], losses: Mapping[tuple[str, ...], Array]
) -> Array:
    """Return what each layer loses over the mean of its group; those of a part lose the same."""
    of_layer = {name: losses[part] / len(part) for part in parts for name in part}
    table = np.array([of_layer[name] for name in group])
    usable = table[:, np.isfinite(table).all(axis=0) & (table.sum(axis=0) > 0)]
    return np.asarray((usable / usable.mean(axis=0)).mean(axis=1)) if usable.size else np.ones(len(group))


def best_split(group: Group, price: float) -> tuple[float, tuple[int, ...]]:
    """Return what it is expected to save to split a group in two, and the layers of the part that loses most.

    Parts are those that have all layers of most expected loss per cost. What is saved is a cost, less what is lost at
    the price. None where it is one layer: (0, ()).
    """
    spans = group.costs[:, 0] - group.costs.min(axis=1)
    order = np.argsort(-group.shares / np.maximum(spans, np.finfo(float).tiny), kind="stable")
    together = float(_values(group.costs.sum(axis=0), group.losses, np.ones(1), price)[0])
    best: tuple[float, tuple[int, ...]] = (0.0, ())
    for count in range(1, len(order)):
        part, rest = order[:count], order[count:]
        costs = (group.costs[list(one)].sum(axis=0) for one in (part, rest))
        values = (
            _values(each, group.losses, of, price) for each, of in zip(costs, (_SHARES, 1 - _SHARES), strict=True)
        )
        gain = float(_chances(float(group.shares[part].sum())) @ sum(values)) - together
        if gain > best[0]:
            best = gain, tuple(sorted(part.tolist()))
    return best


def _values(costs: Array, losses: Array, shares: Array, price: float) -> Array:
    """Return what layers save on their best rung, less what they lose, for each share that they have of the losses."""
    return np.asarray((costs[0] - costs - np.multiply.outer(shares, losses / price)).max(axis=1))


def _chances(mean: float) -> Array:
    """Return how likely each of `_SHARES` is, by a beta distribution."""
    mean = min(max(mean, _MOST_CERTAIN), 1 - _MOST_CERTAIN)
    first, second = _CONFIDENCE * mean, _CONFIDENCE * (1 - mean)
    density = _SHARES ** (first - 1) * (1 - _SHARES) ** (second - 1)
    return np.asarray(density / density.sum())
