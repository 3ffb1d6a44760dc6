"""What a search chooses from, and what it is told of each plan it tries.

Strategies know nothing of models: a plan is a tuple of rungs, one a layer. A strategy is a generator that yields
the plans it wants measured and is sent how each did. It never yields one that was measured before. What comes out
of a search is the cheapest plan that met the target, whichever strategy tried it. With budgets it is the other way
around: what comes out is the plan of least error that costs no more, and no other is yielded.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from quant_core.search.boundaries import NO_BOUNDARIES, BoundaryCosts, cheapest_plan
from quant_core.search.budgets import Budget, plan_within
from quant_core.search.candidates import Candidates, candidates_of, sums

__all__ = ["Candidate", "Measured", "Move", "Prefixes", "Space", "Strategy"]

Candidate = tuple[int, ...]
"""The rung of each layer, in graph order; rung 0 is wide."""
Move = tuple[int, int]
"""Number of a layer, and the rung it goes to."""


@dataclass(frozen=True)
class Measured:
    """How a plan did."""

    met: bool
    """Whether it meets the target."""
    error: float
    """Its score on a scale on which the losses of layers about add up (see `metrics.additive`)."""
    noise: float = 0.0
    """By how much the errors of plans as good as this one differ from each other, on the same scale."""


Strategy = Generator[Candidate, Measured, None]


@dataclass(frozen=True)
class Space:
    """All plans, what is known of them before the first step, and how many may be tried."""

    losses: NDArray[np.float64]
    """Loss of each layer at each rung, shape [layers, rungs]; 0 at rung 0, infinite where it is not known."""
    costs: NDArray[np.float64]
    """Cost of each layer at each rung, same shape; with several budgets a mix of their costs."""
    ranking: tuple[Move, ...]
    """Moves in the order of the ranking."""
    limit: float
    """The largest error that meets the target."""
    known: Mapping[Candidate, Measured]
    """Plans measured before, the wide one among them."""
    evaluations: int
    """How many plans may be tried."""
    budgets: tuple[Budget, ...] = ()
    """The most that a plan may cost; empty where the limit alone says what is good. A plan is within all of them."""
    fixed: frozenset[int] = frozenset()
    """Numbers of the layers that stay on rung 0."""
    expected: frozenset[int] = frozenset()
    """Numbers of the layers whose losses were not measured, but are expected from others'."""
    boundaries: BoundaryCosts = NO_BOUNDARIES
    """What it costs besides that neighbours are on different rungs."""

    @property
    def wide(self) -> Candidate:
        """The plan that all moves start from."""
        return (0,) * len(self.losses)

    @property
    def narrowest(self) -> Candidate:
        """The plan with every layer on the last rung that may be there."""
        last = self.losses.shape[1] - 1
        return tuple(0 if layer in self.fixed else last for layer in range(len(self.losses)))

    @cached_property
    def cheapest(self) -> Candidate:
        """The plan that costs least, or is farthest within its budgets; of rungs that cost the same, the wider."""
        plan = plan_within(self.budgets) if self.budgets else cheapest_plan(self.costs, self.boundaries)
        return tuple(0 if layer in self.fixed else rung for layer, rung in enumerate(plan))

    def cost(self, choice: Candidate) -> float:
        """Return the cost of a plan."""
        return float(self.costs_of(candidates_of([choice], len(choice)))[0])

    def costs_of(self, plans: Candidates) -> NDArray[np.float64]:
        """Return the cost of each plan."""
        return sums(self.costs, plans) + self.boundaries.sums(plans)

    def costs_around(self, plan: Candidate) -> NDArray[np.float64]:
        """Return costs like `costs`, of each layer with its boundaries while all others stay as in a plan."""
        return self.costs + self.boundaries.around(plan)

    def affordable(self, choice: Candidate) -> bool:
        """Return whether a plan is within its budgets."""
        return bool(self.are_affordable(candidates_of([choice], len(choice)))[0])

    def are_affordable(self, plans: Candidates) -> NDArray[np.bool_]:
        """Return whether each plan is within its budgets."""
        found = np.ones(len(plans), bool)
        for budget in self.budgets:
            found &= budget.allows(plans)
        return found

    def prefixes(self, moves: Sequence[Move]) -> Prefixes:
        """The plans after none, one, two, ... of the moves, without those that change nothing.

        A layer that is named twice is as narrow as any of its moves.
        """
        rungs, kept = dict.fromkeys(range(len(self.losses)), 0), []
        for layer, rung in moves:
            if rung > rungs[layer]:
                rungs[layer] = rung
                kept.append((layer, rung))
        return Prefixes(self, kept)

    def efficient_moves(self) -> list[Move]:
        """Moves in ascending order of loss per saved cost, each layer's along the lower hull of its rungs.

        This is the order in which the fractional multiple-choice knapsack problem takes them (Kellerer, Pferschy,
        Pisinger, Knapsack Problems, chapter 11.2). Moves that save nothing, or at a loss that is not finite, are
        left out. Ties keep the order of the graph. Boundaries do not count: moves are ordered as if neighbours made
        them together, which those of the same precision do in the end.
        """
        steps = [(slope, (layer, rung)) for layer in range(len(self.losses)) for slope, rung in self._hull(layer)]
        return [move for _, move in sorted(steps, key=lambda step: step[0])]

    def _hull(self, layer: int) -> list[tuple[float, int]]:
        """(loss per saved cost of the step, rung it leads to) from rung to rung, ever steeper."""
        losses, costs = self.losses[layer], self.costs[layer]
        steps: list[tuple[float, int]] = []
        here = 0
        while True:
            ahead = [
                (max(losses[rung] - losses[here], 0.0) / (costs[here] - costs[rung]), -rung)
                for rung in range(here + 1, len(losses))
                if costs[rung] < costs[here] and math.isfinite(losses[rung])
            ]
            if not ahead:
                return steps
            slope, negative = min(ahead)
            here = -negative
            steps.append((slope, here))


class Prefixes(Sequence[Candidate]):
    """Ever narrower plans, each one move beyond the one before; made when they are asked for."""

    def __init__(self, space: Space, moves: Sequence[Move]) -> None:
        self._space, self._moves = space, moves

    def __len__(self) -> int:
        return len(self._moves) + 1

    def __iter__(self) -> Iterator[Candidate]:
        """One after the other, each from the one before."""
        plan = list(self._space.wide)
        yield tuple(plan)
        for layer, rung in self._moves:
            plan[layer] = rung
            yield tuple(plan)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...

    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        """The plan after so many moves."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        plan = list(self._space.wide)
        for layer, rung in self._moves[: range(len(self))[place]]:
            plan[layer] = rung
        return tuple(plan)

    @property
    def losses(self) -> NDArray[np.float64]:
        """The sum of each plan's losses, added up in the order of the layers."""
        parts = self._space.losses[:, 0].copy()
        sums = [np.cumsum(parts)[-1]]
        for layer, rung in self._moves:
            parts[layer] = self._space.losses[layer, rung]
            sums.append(np.cumsum(parts)[-1])
        return np.array(sums)
