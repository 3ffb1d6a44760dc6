"""Many plans in little memory: as rows of an array, of which sums are taken a part at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidates", "candidates_of", "in_parts", "sums", "unmeasured"]

Candidates = NDArray[np.int8]
"""The rung of each layer, shape [plans, layers]."""

_PART = 1 << 19
"""Numbers, one a layer of each plan, that are worked on at once."""


def candidates_of(plans: Sequence[Sequence[int]], layers: int) -> Candidates:
    """Plans of so many layers as rows."""
    return np.array(plans, np.int8).reshape(len(plans), layers)


def in_parts(choices: Candidates) -> Iterator[Candidates]:
    """The plans, so many at a time that a number a layer of each is no burden."""
    rows = max(_PART // max(choices.shape[1], 1), 1)
    for start in range(0, len(choices), rows):
        yield choices[start : start + rows]


def sums(table: NDArray[np.float64], choices: Candidates) -> NDArray[np.float64]:
    """Return the sum of what a table of shape [layers, rungs] says of the layers of each plan."""
    layers = np.arange(len(table))
    return np.concatenate([np.zeros(0), *(table[layers, part].sum(axis=1) for part in in_parts(choices))])


def unmeasured(choices: Candidates, measured: Iterable[Sequence[int]]) -> Candidates:
    """The plans, each once, without those that were measured."""
    seen = {_digest(np.array(plan, np.int8)) for plan in measured}
    kept = []
    for place, plan in enumerate(choices):
        digest = _digest(plan)
        if digest not in seen:
            seen.add(digest)
            kept.append(place)
    return choices[kept] if len(kept) < len(choices) else choices


def _digest(plan: Candidates) -> bytes:
    return hashlib.blake2b(plan.tobytes(), digest_size=16).digest()
