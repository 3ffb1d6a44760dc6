"""How plans that were not measured will do, from the losses of layers and the plans that were.

A plan's error over the wide plan's is about the sum of its layers' losses times one factor. What each layer adds is
uncertain in proportion to its loss, and so is the factor; what no layer accounts for is the more uncertain, the farther
a plan's error is from the limit. That is a Gaussian process whose mean and covariance are linear in the losses of a
plan (Rasmussen, Williams, Gaussian Processes for Machine Learning, chapters 2.2 and 2.7). A plan that was measured
tells most of those that have many layers in common with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quant_core.search.candidates import Candidates, candidates_of, in_parts
from quant_core.search.space import Candidate, Measured, Space

__all__ = ["Surrogate"]

Array = NDArray[np.float64]

_FACTOR_DOUBT = 0.3
"""Standard deviation of the factor, as a share of it."""
_LAYER_DOUBT = 0.3
"""Standard deviation of what a layer adds, as a share of it."""
_EXPECTED_DOUBT = 0.5
"""The same of a layer whose loss was not measured."""
_PLAN_DOUBT = 0.2
"""Standard deviation of what no layer accounts for in a plan's error, as a share of that where it is e times what the
limit leaves, or an e-th: the farther away, the less do errors add up."""
_LEAST_NOISE = 1e-3
"""Of the error that the limit leaves: errors are never taken to be known better."""


class Surrogate:
    """What is believed of the error of each plan after some were measured."""

    def __init__(self, space: Space, measured: Mapping[Candidate, Measured]) -> None:
        self._space = space
        self._doubts = np.full(len(space.losses), _LAYER_DOUBT)
        self._doubts[list(space.expected)] = _EXPECTED_DOUBT
        self._wide = measured[space.wide]
        room = abs(space.limit - self._wide.error) or abs(space.limit) or 1.0
        known = {plan: found for plan, found in measured.items() if plan != space.wide and math.isfinite(found.error)}
        plans = candidates_of(list(known), len(space.losses))
        parts = self._parts(plans)
        usable = np.isfinite(parts).all(axis=1) & (parts.sum(axis=1) > 0)
        found = [one for one, usable_one in zip(known.values(), usable, strict=True) if usable_one]
        self._parts_known = parts[usable]
        self._numbers = {plan.tobytes(): number for number, plan in enumerate(plans[usable])}
        self._noise = np.array([max(one.noise, _LEAST_NOISE * room) for one in found])
        rises = np.array([one.error - self._wide.error for one in found])
        distance = np.abs(np.log(np.maximum(rises, _LEAST_NOISE * room) / room))
        self.factor = self._factor(rises, distance, room)
        """Error per loss, before what single layers were found to add."""
        self._own = (_PLAN_DOUBT * self.factor * self._parts_known.sum(axis=1) * distance) ** 2
        covariance = self._covariance(self._parts_known, self._parts_known) + np.diag(self._noise**2 + self._own)
        self._inverse = np.linalg.inv(covariance) if found else np.zeros((0, 0))
        self._surprise = self._inverse @ (rises - self.factor * self._parts_known.sum(axis=1))

    def _parts(self, plans: Candidates) -> Array:
        """The loss of each layer under each plan, shape [plans, layers]."""
        return self._space.losses[np.arange(plans.shape[1]), plans]

    def _factor(self, rises: Array, distance: Array, room: float) -> float:
        """Error per loss, mostly from plans whose error is near the limit's."""
        sums = self._parts_known.sum(axis=1)
        if not len(sums):
            return 1.0
        weights = 1 / (1 + distance)
        factor = float(np.sum(weights * rises / sums) / np.sum(weights))
        return max(factor, _LEAST_NOISE * room / float(sums.max()))

    def _covariance(self, first: Array, second: Array) -> Array:
        common = (first * self._doubts**2) @ second.T
        return np.asarray(
            self.factor**2 * (common + _FACTOR_DOUBT**2 * np.outer(first.sum(axis=1), second.sum(axis=1)))
        )

    def __call__(self, plans: Candidates) -> tuple[Array, Array]:
        """Mean and standard deviation of the error of each plan, all of finite loss."""
        means, deviations = zip(*map(self._predicted, in_parts(plans)), strict=True)
        return np.concatenate(means), np.concatenate(deviations)

    def _predicted(self, plans: Candidates) -> tuple[Array, Array]:
        parts = self._parts(plans)
        sums = parts.sum(axis=1)
        shared, own = self._covariance(parts, self._parts_known), np.zeros(len(plans))
        for row, number in self._measured_among(plans):
            shared[row, number] += self._own[number]
            own[row] = self._own[number]
        mean = self._wide.error + self.factor * sums + shared @ self._surprise
        own += self.factor**2 * (np.sum((self._doubts * parts) ** 2, axis=1) + _FACTOR_DOUBT**2 * sums**2)
        variance = own - np.sum((shared @ self._inverse) * shared, axis=1)
        noise = float(np.median(self._noise)) if len(self._noise) else 0.0
        return mean, np.sqrt(np.maximum(variance, 0.0) + noise**2)

    def _measured_among(self, plans: Candidates) -> list[tuple[int, int]]:
        """Return (number of a plan, its number among those measured) of the plans that were measured."""
        rows = ((row, self._numbers.get(plan.tobytes())) for row, plan in enumerate(plans) if self._numbers)
        return [(row, number) for row, number in rows if number is not None]

    def losses(self) -> Array:
        """The losses with what was learnt of each layer: the factor times these adds up to the mean."""
        own, everything = self._space.losses, self._parts_known.sum(axis=1)
        if not len(self._surprise):
            return own
        each = self._doubts**2 * (self._parts_known.T @ self._surprise)
        common = _FACTOR_DOUBT**2 * float(everything @ self._surprise)
        finite = np.where(np.isfinite(own), own, 0.0)
        learnt = finite * np.maximum(1 + self.factor * (each[:, None] + common), _LEAST_NOISE)
        return np.where(np.isfinite(own), learnt, np.inf)
