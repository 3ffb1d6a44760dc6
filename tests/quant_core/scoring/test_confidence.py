"""Bounds of scores, and what looking often costs."""

import math

import numpy as np
import pyarrow as pa
import pytest

from quant_core.config import Target
from quant_core.scoring.confidence import alpha_of_look, bounds, samples_to_settle, student_quantile, tango_bounds
from quant_core.storage.schemas import SCORES

DROP = Target(metric="top1_drop", limit=0.01)


def scores(**columns):
    count = len(next(iter(columns.values())))
    zeros = {
        field.name: pa.nulls(count, field.type) if pa.types.is_list(field.type) else np.zeros(count) for field in SCORES
    }
    return pa.Table.from_pydict(zeros | columns, schema=SCORES)


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.95, 1, 6.3138),
        (0.975, 2, 4.3027),
        (0.95, 5, 2.0150),
        (0.99, 10, 2.7638),
        (0.95, 30, 1.6973),
        (0.95, 999, 1.6464),
    ],
)
def test_quantiles_of_students_t_are_those_of_the_tables(probability, freedom, expected):
    assert student_quantile(probability, freedom) == pytest.approx(expected, abs=2e-4)


def test_far_out_the_quantile_goes_over_into_the_normal_one():
    assert student_quantile(0.99, 1999) == pytest.approx(student_quantile(0.99, 2000), abs=2e-3)


@pytest.mark.parametrize(("lost", "won", "count"), [(12, 2, 50), (9, 9, 400), (30, 12, 2000)])
def test_at_the_bound_the_score_statistic_is_the_normal_quantile(lost, won, count):
    """With the likelihood maximised under the constraint by trying everything."""
    high = tango_bounds(lost, won, count, 0.025)[1]
    other = np.linspace(1e-9, (1 - high) / 2 - 1e-9, 2_000_001)
    likelihood = lost * np.log(other + high) + won * np.log(other)
    likelihood += (count - lost - won) * np.log(1 - 2 * other - high)
    best = other[np.argmax(likelihood)]
    deviation = math.sqrt(count * (2 * best + high * (1 - high)))
    assert (lost - won - count * high) / deviation == pytest.approx(-1.95996, abs=1e-3)


def test_no_difference_seen_is_not_none_at_all():
    low, high = tango_bounds(0, 0, 1000, 0.05)
    assert low == -high and 0.002 < high < 0.003  # z^2 / (n + z^2)


@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.02), (0.01, 0.002), (0.004, 0.0)])
def test_the_bound_on_a_drop_holds_as_often_as_it_says(lost, won):
    random, count, alpha = np.random.default_rng(0), 1000, 0.05
    draws = random.multinomial(count, [lost, won, 1 - lost - won], size=4000)
    exceeded = np.mean([tango_bounds(a, b, count, alpha)[1] < lost - won for a, b, _ in draws])
    assert exceeded < 0.065


def test_the_bound_on_a_mean_holds_as_often_as_it_says():
    random = np.random.default_rng(0)
    exceeded = [bounds("l2", scores(l2=random.gamma(4, 0.25, 40)), 0.05).high < 1.0 for _ in range(2000)]
    assert 0.03 < np.mean(exceeded) < 0.09


def test_a_bound_is_on_the_side_that_is_the_worse():
    random = np.random.default_rng(0)
    found = bounds("sqnr_db", scores(signal=np.full(100, 100.0), error=random.gamma(4, 0.25, 100)), 0.05)
    assert found.worst(Target(metric="sqnr_db", limit=10)) == found.low < 20 < found.high + 1
    assert found.worst(DROP) == found.high


def test_a_model_without_an_error_is_surely_within_any_limit():
    found = bounds("sqnr_db", scores(signal=np.full(9, 100.0), error=np.zeros(9)), 0.05)
    assert found.low == math.inf
    assert samples_to_settle(Target(metric="sqnr_db", limit=10), 9.0, math.inf, 0.05) is None


def test_dense_outputs_are_right_in_part():
    random = np.random.default_rng(0)
    right = random.uniform(size=200)
    found = bounds("top1_drop", scores(float_top1=right, top1=right - 0.01), 0.05)
    assert found.low == pytest.approx(0.01) and found.high == pytest.approx(0.01)


def test_one_sample_bounds_nothing():
    assert bounds("l2", scores(l2=np.ones(1)), 0.05).high == math.inf


def test_all_looks_together_spend_no_more_than_there_is():
    spent = [alpha_of_look(0.95, look) for look in range(500)]
    assert sum(spent) == pytest.approx(0.05) and spent == sorted(spent, reverse=True)


def test_so_many_samples_would_settle_it():
    """1.645 standard errors of 0.1 / sqrt(n) are the 0.002 that is left at n = 6764."""
    assert samples_to_settle(DROP, 0.008, 0.1, 0.05) == pytest.approx(6764, abs=2)
    assert samples_to_settle(DROP, 0.01, 0.1, 0.05) is None


def a_population(random, count, plans):
    """Whether the float model and each of ever narrower plans have each sample right; plans disagree in nested parts."""
    right = random.random(count) < 0.88
    draw = random.random(count)
    shares = np.geomspace(0.002, 0.06, plans)
    return right, [np.where(draw < share, random.random(count) < np.where(right, 0.4, 0.3), right) for share in shares]


def accepted(right, plans, target):
    """The narrowest plan whose bound meets the target, looked for as a search does it: from the narrowest on."""
    for look, plan in enumerate(reversed(plans)):
        columns = {"float_top1": right.astype(float), "top1": plan.astype(float)}
        if target.met_by(bounds("top1_drop", scores(**columns), alpha_of_look(0.95, look)).worst(target)):
            return len(plans) - 1 - look
    return None


def test_what_is_accepted_holds_on_the_rest_of_the_data_in_95_of_100_splits():
    random, target = np.random.default_rng(3), Target(metric="top1_drop", limit=0.005)
    right, plans = a_population(random, 8000, 24)
    found, broken, without = 0, 0, 0
    for _ in range(100):
        order = random.permutation(8000)
        looked_at, rest = order[:4000], order[4000:]
        drops = [float(np.mean(right[rest]) - np.mean(plan[rest])) for plan in plans]
        narrowest = accepted(right[looked_at], [plan[looked_at] for plan in plans], target)
        if narrowest is not None:
            found += 1
            broken += drops[narrowest] > target.limit
        seen = [np.mean(right[looked_at]) - np.mean(plan[looked_at]) <= target.limit for plan in plans]
        without += drops[max(np.flatnonzero(seen))] > target.limit
    assert found > 80 and broken <= 5
    assert without > 20  # taking the drop that was seen at face value is what the bound is there for
