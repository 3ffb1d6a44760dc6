"""Plans in runs: of those that cost about the least, the ones with the fewest boundaries between precisions.

What a boundary costs a compiler or a device is mostly not known, so that none has a price here. Instead it is said how
much more of the cost fewer boundaries are worth: plans within that allowance are compared by their boundaries, and
those of equally many by cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import Candidates, candidates_of, in_parts, unmeasured
from quant_core.search.improvement import chances
from quant_core.search.knapsack import in_units
from quant_core.search.space import Candidate, Measured, Space, Strategy
from quant_core.search.surrogate import Surrogate

__all__ = ["cheapest_runs", "in_runs", "merits"]

Array = NDArray[np.float64]
Pairs = NDArray[np.int64]
"""Numbers of the two layers of each pair that may have a boundary, the earlier first, shape [pairs, 2]."""

_ALLOWANCE = 0.025
"""How much more than the cheapest plan one with fewer boundaries may cost, as a share."""
_WORTH_AN_EVALUATION = 1 / 10
"""Boundaries that a plan is expected to have fewer, or that share of the allowance that it costs less, at least."""
_BEYOND = 2.0
"""Plans whose predicted error is that many times what the limit leaves are not looked at."""
_UNITS = 256
"""Steps of the sums of losses that are told apart."""
_OPEN = 64
"""Ways at most in which layers that have boundaries further on are told apart."""


def merits(costs: Array, boundaries: NDArray[np.int64], least: float) -> Array:
    """Return what plans are compared by, the lower the better, where the cheapest costs `least`.

    Beyond the allowance it is infinite.
    """
    over = (costs - least) / (_ALLOWANCE * least) if least else np.zeros(len(costs))
    return np.where(over <= 1, boundaries + over, np.inf)


def in_runs(space: Space, pairs: Pairs) -> Strategy:
    """Try plans that are expected to have fewer boundaries, or to cost less with as many, within the allowance."""
    measured = dict(space.known)
    for _ in range(space.evaluations):
        plan = _most_promising(space, pairs, measured)
        if plan is None:
            return
        measured[plan] = yield plan


def _most_promising(space: Space, pairs: Pairs, measured: Mapping[Candidate, Measured]) -> Candidate | None:
    met = candidates_of([plan for plan, found in measured.items() if found.met], len(space.losses))
    least = float(space.costs_of(met).min())
    best = float(merits(space.costs_of(met), _boundaries(met, pairs), least).min())
    predictor = Surrogate(space, measured)
    capacity = _BEYOND * (space.limit - measured[space.wide].error) / predictor.factor
    plans = unmeasured(cheapest_runs(predictor.losses(), space.costs, pairs, capacity, int(best)), measured)
    merit = merits(space.costs_of(plans), _boundaries(plans, pairs), least)
    plans, merit = plans[merit < best], merit[merit < best]
    if not len(plans):
        return None
    gains = (best - merit) * chances(space.limit, *predictor(plans))
    first = int(np.argmax(gains))
    return tuple(plans[first].tolist()) if gains[first] >= _WORTH_AN_EVALUATION else None


def _boundaries(plans: Candidates, pairs: Pairs) -> NDArray[np.int64]:
    """Return in how many of the pairs each plan has different rungs."""
    first, second = pairs.T
    parts = [(part[:, first] != part[:, second]).sum(axis=1) for part in in_parts(plans)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def cheapest_runs(losses: Array, costs: Array, pairs: Pairs, capacity: float, most: int) -> Candidates:
    """Return the cheapest plans for every sum of losses up to `capacity` and every number of boundaries up to `most`.

    Dynamic programming from layer to layer, as `cheapest_plans` does it; beside sums and boundaries, plans begun are
    told apart by the rungs of layers that have boundaries further on. Where these are too many, those of the first are
    not counted.
    """
    weights = in_units(losses, capacity, _UNITS)
    last = dict(sorted(pairs.tolist()))
    at_most = max(int(np.log(_OPEN) / np.log(max(losses.shape[1], 2))), 1)
    begun, steps = _Begun((), np.zeros((1, most + 1, _UNITS + 1))), []
    for layer in range(len(losses)):
        before = pairs[pairs[:, 1] == layer, 0].tolist()
        opened = tuple(one for one in (*begun.opened, layer) if last.get(one, -1) > layer)[-at_most:]
        begun, step = begun.with_layer(layer, weights[layer], costs[layer], before, opened)
        steps.append(step)
    return _plans(begun.costs[0], steps, weights)


@dataclass(frozen=True)
class _Step:
    """How the cheapest plans begun came about, by what is told apart."""

    rungs: NDArray[np.int8]
    """The rung of the layer."""
    states: NDArray[np.int16]
    """Number of the rungs of the open layers before it."""
    apart: NDArray[np.int16]
    """Boundaries that the layer has with earlier ones."""


@dataclass(frozen=True)
class _Begun:
    """The cheapest plans of the first layers."""

    opened: tuple[int, ...]
    """Numbers of the layers that have boundaries further on."""
    costs: Array
    """By the rungs of those, the most boundaries, and the largest sum of losses in units."""

    def with_layer(
        self, layer: int, weights: NDArray[np.int64], costs: Array, before: Sequence[int], opened: tuple[int, ...]
    ) -> tuple[_Begun, _Step]:
        """Return the cheapest plans of one layer more, of which `opened` are told apart, and how they came about."""
        shape = (len(costs) ** len(opened), *self.costs.shape[1:])
        found = np.full(shape, np.inf)
        step = _Step(np.zeros(shape, np.int8), np.zeros(shape, np.int16), np.zeros(shape, np.int16))
        most, units = shape[1] - 1, shape[2] - 1
        for number, rungs in enumerate(product(range(len(costs)), repeat=len(self.opened))):
            for rung, weight in enumerate(weights.tolist()):
                at = dict(zip(self.opened, rungs, strict=True)) | {layer: rung}
                apart = sum(at.get(one, rung) != rung for one in before)
                if apart > most or weight > units:
                    continue
                place = (_number([at[one] for one in opened], len(costs)), slice(apart, None), slice(weight, None))
                cost = self.costs[number, : most + 1 - apart, : units + 1 - weight] + costs[rung]
                cheaper = cost < found[place]
                found[place][cheaper] = cost[cheaper]
                step.rungs[place][cheaper], step.states[place][cheaper] = rung, number
                step.apart[place][cheaper] = apart
        return _Begun(opened, found), step


def _number(rungs: Iterable[int], base: int) -> int:
    """Return the place of some rungs among all there may be, in the order of `product`."""
    number = 0
    for rung in rungs:
        number = number * base + rung
    return number


def _plans(costs: Array, steps: Sequence[_Step], weights: NDArray[np.int64]) -> Candidates:
    """Return the plans of those sums and boundaries at which the least cost falls."""
    falls = np.diff(costs, axis=1, prepend=np.inf) < 0
    falls[1:] &= costs[1:] < costs[:-1]
    boundaries, sums = np.nonzero(falls & np.isfinite(costs))
    rungs, states = np.zeros((len(sums), len(steps)), np.int8), np.zeros(len(sums), np.int16)
    for layer in range(len(steps) - 1, -1, -1):
        step, place = steps[layer], (states, boundaries, sums)
        rungs[:, layer] = step.rungs[place]
        states, boundaries = step.states[place], boundaries - step.apart[place]
        sums = sums - weights[layer, rungs[:, layer]]
    return rungs
