"""Plans of least loss within several budgets: the multiple-choice knapsack problem with several constraints.

Layers are decided one after the other. Of the plans begun, those are gone on with that can still be within all budgets
and promise least: by what they lose and, at a price for each budget, spend. The prices are those of the Lagrangian
relaxation (Kellerer, Pferschy, Pisinger, Knapsack Problems, chapter 9.2). Where all plans are few enough to be gone on
with, the best one is found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import Candidates

__all__ = ["least_losing_plans"]

Array = NDArray[np.float64]

_KEPT = 8192
"""Plans begun that are gone on with."""
_STEPS = 200
"""Steps of the subgradient method."""
_ROUNDING = 1e-9


def least_losing_plans(losses: Array, costs: Array, most: Array) -> Candidates:
    """Return plans within all budgets, that of the least sum of losses first; none where none was found.

    Args:
        losses: Loss of each layer at each rung, shape [layers, rungs]; one that is not finite is never taken.
        costs: What it costs by each budget, shape [budgets, layers, rungs].
        most: What all layers together may cost by each, shape [budgets].

    """
    prices = _prices(losses, costs, most)
    # What the layers that are not decided yet cost at least.
    ahead = np.cumsum(costs.min(axis=2)[:, ::-1], axis=1)[:, ::-1]
    left = np.concatenate([ahead[:, 1:], np.zeros((len(most), 1))], axis=1)
    plans, lost, spent = np.zeros((1, 0), np.int8), np.zeros(1), np.zeros((1, len(most)))
    for layer in range(len(losses)):
        rungs = np.flatnonzero(np.isfinite(losses[layer]))
        plans = np.concatenate([np.repeat(plans, len(rungs), axis=0), np.tile(rungs, len(plans))[:, None]], axis=1)
        lost = np.add.outer(lost, losses[layer, rungs]).ravel()
        spent = (spent[:, None] + costs[:, layer, rungs].T).reshape(-1, len(most))
        kept = np.flatnonzero((spent + left[:, layer] <= most + _ROUNDING * np.abs(most)).all(axis=1))
        if len(kept) > _KEPT:
            kept = kept[np.argsort((lost + spent @ prices)[kept], kind="stable")[:_KEPT]]
        plans, lost, spent = plans[kept].astype(np.int8), lost[kept], spent[kept]
    return plans[np.argsort(lost, kind="stable")]


def _prices(losses: Array, costs: Array, most: Array) -> Array:
    """Return what a unit of each budget is worth in loss, where no plan may be worse for it (subgradient method)."""
    scale = costs.max(axis=2).sum(axis=1)
    scale[scale == 0] = 1.0
    finite = np.where(np.isfinite(losses), losses, np.inf)
    total = float(np.where(np.isfinite(losses), losses, 0.0).max(axis=1).sum())
    shares, limits = costs / scale[:, None, None], most / scale
    prices, late = np.zeros(len(most)), []
    for step in range(_STEPS):
        rungs = np.argmin(finite + np.tensordot(prices, shares, axes=1), axis=1)
        over = shares[:, np.arange(len(losses)), rungs].sum(axis=1) - limits
        prices = np.maximum(prices + 4 * total / (1 + step) * over, 0.0)
        if step >= _STEPS // 2:
            late.append(prices)
    return np.asarray(np.mean(late, axis=0) / scale)
