"""When the verdict on a plan is settled."""

import math

import numpy as np
import pyarrow as pa
import pytest

from quant_core.config import Target
from quant_core.metrics import METRICS
from quant_core.sampling import visited
from quant_core.sequential import evaluation_rounds, project
from quant_core.tables import SCORES


@pytest.mark.parametrize(
    ("count", "samples", "rounds"),
    [
        (2000, "auto", [250, 500, 1000, 2000]),
        (2000, 300, [250, 500, 1000, 2000]),
        (2000, "all", [2000]),
        (127, "auto", [127]),
        (128, "auto", [64, 128]),
        (300, "auto", [64, 128, 300]),
    ],
    ids=str,
)
def test_rounds(count, samples, rounds):
    assert evaluation_rounds(count, samples) == rounds


def scores(l2, top1=None, float_top1=None):
    l2 = np.asarray(l2, float)
    columns = {"l2": l2, "signal": np.full(len(l2), 100.0), "error": l2**2, "kl": l2, "cosine": l2}
    columns |= {"top1": top1, "float_top1": float_top1}
    return pa.Table.from_pydict(
        {k: pa.nulls(len(l2), pa.float64()) if v is None else v for k, v in columns.items()}, schema=SCORES
    )


def seen(table, count):
    return table.take(visited(table.num_rows, 0, count))


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


def test_a_verdict_is_never_wrong():
    for seed in range(200):
        wide, plan = random_scores(seed)
        for limit in np.linspace(0.2, 0.3, 21):
            target = Target(metric="l2", limit=limit)
            for count in (250, 500, 1000):
                verdict = project("l2", seen(plan, count), wide).verdict(target)
                assert verdict in (None, target.met_by(METRICS["l2"](plan).value))


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
    lost[[row for row in range(2000) if row not in set(visited(2000, 0, 250))][:20]] = 0
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
