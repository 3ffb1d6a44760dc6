"""Plans with random precisions, whose times as whole models say what boundaries cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quant_core.precision import Precision, PrecisionPlan

__all__ = ["mixes"]

_FEWEST, _MOST = 24, 72
_PER_LAYER = 2
"""Mixes for each layer and precision beyond the first, between the fewest and the most."""
_SEED = 20260101


def mixes(layers: Sequence[str], precisions: Sequence[Precision], seed: int = _SEED) -> list[PrecisionPlan]:
    """Return some mixes, each once; none of a single layer or a single precision.

    One half alternates at random from layer to layer; the other has longer runs of one precision, as plans that are
    worth choosing have.
    """
    rungs = len(dict.fromkeys(precisions))
    if len(layers) < 2 or rungs < 2:
        return []
    random = np.random.default_rng(seed)
    count = min(max(_PER_LAYER * len(layers) * (rungs - 1), _FEWEST), _MOST)
    found: dict[tuple[int, ...], None] = {}
    for at in range(count):
        found.setdefault(tuple(_rungs(random, len(layers), rungs, 1.0 if at % 2 else 0.25).tolist()))
    ladder = list(dict.fromkeys(precisions))
    return [
        PrecisionPlan(tuple((name, ladder[rung]) for name, rung in zip(layers, plan, strict=True)))
        for plan in found
        if len(set(plan)) > 1
    ]


def _rungs(random: np.random.Generator, layers: int, rungs: int, switching: float) -> NDArray[np.int64]:
    """Draw a rung a layer; `switching` is the chance that a layer's is drawn anew and not that of the one before."""
    shares = random.dirichlet(np.ones(rungs))
    drawn = random.choice(rungs, size=layers, p=shares)
    anew = random.uniform(size=layers) < switching
    anew[0] = True
    return np.asarray(drawn[np.maximum.accumulate(np.where(anew, np.arange(layers), 0))])
