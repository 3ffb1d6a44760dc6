"""Which samples are looked at first."""

from itertools import pairwise

import numpy as np
import pytest

from quant_core.scoring.sampling import SAMPLES_A_SHARD, doubling, sample_shards, visit_order


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000])
def test_every_sample_is_visited_once(count):
    cuts = [0, count // 3, count // 2, count]
    parts = [visit_order(count, start, stop) for start, stop in pairwise(cuts)]
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("seen", [50, 125, 500])
def test_a_beginning_is_spread_evenly_over_the_data(seen):
    rows = visit_order(1000, 0, seen)
    assert np.diff(rows, prepend=-1, append=1000).max() <= 3 * 1000 / seen
    assert [((rows >= start) & (rows < start + 100)).sum() for start in range(0, 1000, 100)] == pytest.approx(
        [seen / 10] * 10, abs=2
    )


@pytest.mark.parametrize(("first", "last", "rounds"), [(64, 500, [64, 128, 256]), (64, 64, [64]), (64, 10, [64])])
def test_rounds_double(first, last, rounds):
    assert doubling(first, last) == rounds


def test_many_samples_are_looked_at_in_shards_that_depend_on_nothing_else():
    most = SAMPLES_A_SHARD
    assert sample_shards(0, most) == [(0, most)]
    assert sample_shards(10, 2 * most + 11) == [
        (10, most + 10),
        (most + 10, 2 * most + 10),
        (2 * most + 10, 2 * most + 11),
    ]
