"""Which samples are looked at first, where not all of them may be needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_core.storage.references import Reference

__all__ = ["GOLDEN", "SAMPLES_A_SHARD", "Samples", "doubling", "sample_shards", "visit_order", "worth_a_round"]

SAMPLES_A_SHARD = 1024
"""The most samples that one call of a stage looks at; more are split into several calls, which workers share. It does
not depend on the number of workers, so that results are found again with another number."""

_MACS_A_ROUND = 1 << 27
"""Multiply-accumulates that take about as long as what a round costs beside them: sessions, tasks, files."""

GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples, modulo 1, are spread evenly however many there are."""


@dataclass(frozen=True)
class Samples:
    """Some samples of a data set: those that come as [start, stop) in the order of visits."""

    data: Reference
    """The data set."""
    start: int
    """The place of the first one."""
    stop: int
    """The place behind the last one."""
    numbers: tuple[int, ...] = ()
    """Which samples these are, ascending, where they come in an order of their own; else by `visit_order`."""

    def rows(self, count: int) -> NDArray[np.intp]:
        """Return the numbers of the samples, ascending, in a data set of `count`."""
        return np.array(self.numbers, np.intp) if self.numbers else visit_order(count, self.start, self.stop)


def visit_order(count: int, start: int, stop: int) -> NDArray[np.intp]:
    """Numbers of the samples that come as [start, stop) in the order of visits, ascending.

    The order spreads every beginning of it evenly over the data, which may well be sorted by class: sample i comes
    at the rank of i times the golden ratio, modulo 1 (the three-gap theorem; Knuth, The Art of Computer
    Programming, volume 3, section 6.4, theorem S).
    """
    order = np.argsort(np.arange(count) * GOLDEN % 1, kind="stable")
    return np.sort(order[start:stop])


def sample_shards(start: int, stop: int) -> list[tuple[int, int]]:
    """The samples [start, stop) in the order of visits as parts [first, last) of at most SAMPLES_A_SHARD."""
    firsts = range(start, stop, SAMPLES_A_SHARD)
    return [(first, min(first + SAMPLES_A_SHARD, stop)) for first in firsts]


def worth_a_round(macs: int) -> int:
    """Return how many samples of so many multiply-accumulates a round has at least: fewer would save no time."""
    return -(-_MACS_A_ROUND // macs) if macs else 1


def doubling(first: int, last: int) -> list[int]:
    """Numbers of samples after which each round ends: `first`, then twice as many each time, `last` at the most."""
    rounds = [first]
    while 2 * rounds[-1] <= last:
        rounds.append(2 * rounds[-1])
    return rounds
