"""When the verdict on a plan is settled."""

import math

import numpy as np
import pyarrow as pa
import pytest

from quant_core.config import Target
from quant_core.scoring.confidence import bounds
from quant_core.scoring.metrics import METRICS
from quant_core.scoring.sampling import visit_order
from quant_core.scoring.sequential import evaluation_rounds, in_data_order, project
from quant_core.storage.schemas import SCORES


@pytest.mark.parametrize(
    ("count", "samples", "macs", "rounds"),
    [
        (2000, "auto", 0, [250, 500, 1000, 1500, 2000]),
        (2000, 300, 0, [250, 500, 1000, 1500, 2000]),
        (2000, "all", 0, [2000]),
        (63, "auto", 0, [63]),
        (64, "auto", 0, [32, 48, 64]),
        (300, "auto", 0, [37, 74, 148, 225, 300]),
        (2000, "auto", 41_000_000, [250, 500, 1000, 1500, 2000]),
        (2000, "auto", 200_000, [672, 1500, 2000]),
        (2000, "auto", 40_000, [2000]),
        (64, "auto", 10**12, [32, 48, 64]),
    ],
    ids=str,
)
def test_rounds(count, samples, macs, rounds):
    assert evaluation_rounds(count, samples, macs) == rounds


def test_rounds_begin_with_another_share_where_that_is_worth_it():
    assert evaluation_rounds(2000, "auto", first_share=1 / 16) == [125, 250, 500, 1000, 1500, 2000]
    assert evaluation_rounds(100, "auto", first_share=1 / 16)[0] == 32


def scores(l2, top1=None, float_top1=None):
    l2 = np.asarray(l2, float)
    columns = {"l2": l2, "signal": np.full(len(l2), 100.0), "error": l2**2, "kl": l2, "cosine": l2}
    columns |= {"top1": top1, "float_top1": float_top1}
    known = {name: values for name, values in columns.items() if values is not None}
    return pa.Table.from_pydict(
        {field.name: known.get(field.name, pa.nulls(len(l2), field.type)) for field in SCORES}, schema=SCORES
    )


def seen(table, count):
    return table.take(visit_order(table.num_rows, 0, count))


@pytest.mark.parametrize(("start", "stops"), [(0, [7, 20]), (7, [11, 20]), (7, [20])], ids=str)
def test_parts_of_a_round_are_joined_in_the_order_of_the_data(start, stops):
    whole = scores(np.arange(20.0))
    rows = [visit_order(20, first, last) for first, last in zip([start, *stops], stops, strict=False)]
    assert in_data_order([whole.take(one) for one in rows], rows) == whole.take(visit_order(20, start, 20))


def random_scores(seed):
    """The wide plan's terms and another's, which goes along with them."""
    rng = np.random.default_rng(seed)
    wide = rng.gamma(4, 0.05, 2000)
    return scores(wide), scores(np.abs(wide * 1.2 + rng.normal(0, 0.02, 2000)))


@pytest.mark.parametrize("metric", ["l2", "sqnr_db", "kl", "cosine"])
def test_a_projection_is_as_far_off_as_it_says(metric):
    off = []
    for seed in range(200):
        wide, plan = random_scores(seed)
        found = project(metric, seen(plan, 250), wide)
        off.append((found.score.value - METRICS[metric](plan).value) / found.uncertain)
    assert 0.6 < np.std(off) < 1.2 and abs(np.mean(off)) < 0.3


def test_the_wide_plan_makes_the_projection_sharper():
    wide, plan = random_scores(0)
    part = seen(plan, 250)
    assert project("l2", part, wide).uncertain < 0.4 * METRICS["l2"](part).score.standard_error


@pytest.mark.parametrize(
    ("limit", "verdict"), [(1.0, False), (1.4, None), (1.5, None), (1.6, None), (2.0, True)], ids=str
)
def test_the_verdict_is_open_near_the_limit(limit, verdict):
    rng = np.random.default_rng(0)
    wide = scores(np.full(2000, 1.0))
    plan = scores(1.5 + rng.normal(0, 1.0, 2000))
    assert project("l2", seen(plan, 250), wide).verdict(Target(metric="l2", limit=limit)) is verdict


@pytest.mark.parametrize("count", [64, 2000], ids=str)
def test_a_verdict_is_hardly_ever_wrong(count):
    wrong = []
    for seed in range(300):
        wide, plan = (table.slice(0, count) for table in random_scores(seed))
        truth = METRICS["l2"](plan).value
        for stop in evaluation_rounds(count, "auto")[:-1]:
            found = project("l2", seen(plan, stop), wide)
            # The nearest limit that the verdict is closed on, from either side.
            for limit in (found.score.value + sign * 3.01 * found.uncertain for sign in (-1, 1)):
                target = Target(metric="l2", limit=limit)
                assert found.verdict(target) is not None
                wrong.append(found.verdict(target) is not target.met_by(truth))
    assert np.mean(wrong) < 1 / 200


def test_higher_may_be_better():
    wide, plan = random_scores(0)
    limits = (METRICS["sqnr_db"](plan).value + by for by in (-2, 0, 2))
    found = [
        project("sqnr_db", seen(plan, 250), wide).verdict(Target(metric="sqnr_db", limit=limit)) for limit in limits
    ]
    assert found == [True, None, False]


def test_no_change_among_a_few_samples_does_not_mean_none_at_all():
    right = np.ones(2000)
    wide = scores(np.ones(2000), right, right)
    lost = right.copy()
    lost[[row for row in range(2000) if row not in set(visit_order(2000, 0, 250))][:20]] = 0
    plan = scores(np.ones(2000), lost, right)
    strict = project("top1_drop", seen(plan, 250), wide)
    assert strict.score.value == 0 and strict.verdict(Target(metric="top1_drop", limit=0.009)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_verdict_on_what_is_not_a_number(bad):
    wide, plan = random_scores(0)
    broken = plan.column("l2").to_numpy().copy()
    broken[:] = bad
    assert project("l2", seen(scores(broken), 250), wide).verdict(Target(metric="l2", limit=1)) is None


def test_no_error_at_all_is_no_verdict_in_decibels():
    perfect = scores(np.zeros(2000))
    assert project("sqnr_db", seen(perfect, 250), perfect).verdict(Target(metric="sqnr_db", limit=40)) is None


CONFIDENT = Target(metric="l2", limit=1.5, confidence=0.95)


@pytest.mark.parametrize(("mean", "verdict"), [(0.5, None), (1.4, None), (1.5, None), (2.2, False)], ids=str)
def test_a_plan_that_must_be_sure_is_refused_early_but_not_accepted(mean, verdict):
    rng = np.random.default_rng(0)
    wide = scores(np.full(2000, 1.0))
    plan = scores(mean + rng.normal(0, 1.0, 2000))
    assert project("l2", seen(plan, 250), wide).verdict(CONFIDENT, 0.005) is verdict


def test_an_early_refusal_agrees_with_the_bound_on_all_samples():
    refused = 0
    for seed in range(100):
        wide, plan = random_scores(seed)
        for limit in np.linspace(0.2, 0.3, 21):
            target = Target(metric="l2", limit=limit, confidence=0.95)
            for count in (250, 500, 1000):
                if project("l2", seen(plan, count), wide).verdict(target, 0.005) is False:
                    refused += 1
                    assert not target.met_by(bounds("l2", plan, 0.005).worst(target))
    assert refused > 1000


def test_the_projected_bound_is_about_that_of_all_samples():
    wide, plan = random_scores(0)
    target = Target(metric="l2", limit=1, confidence=0.95)
    projected = project("l2", seen(plan, 1000), wide).bound(target, 0.005)
    assert projected == pytest.approx(bounds("l2", plan, 0.005).high, rel=0.01)
