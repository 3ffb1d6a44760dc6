"""Top-1 is settled on the samples whose class may change."""

import math

import numpy as np
import pyarrow as pa
import pytest

from quant_core.config import Target
from quant_core.scoring.by_margin import ByMargin
from quant_core.scoring.confidence import bounds
from quant_core.scoring.metrics import METRICS
from quant_core.scoring.terms import sample_terms, terms_table

COUNT, CLASSES = 1000, 10


def scored(moved, seed=0, labels=None, spread=4.0):
    """The terms of a plan that moves logits by a double exponential of that root mean square."""
    rng = np.random.default_rng(seed)
    exact = rng.normal(0, spread, (COUNT, CLASSES))
    right = np.where(rng.uniform(size=COUNT) < 0.9, exact.argmax(1), rng.integers(CLASSES, size=COUNT))
    found = exact + rng.laplace(0, moved / 2, exact.shape) if moved else exact
    return terms_table([sample_terms([exact], [found], right if labels is None else labels)])


def seen(table, count):
    return table.take(ByMargin(table).rows(0, count))


def test_the_samples_of_the_smallest_margins_come_first_in_the_order_of_the_data():
    whole = scored(0.1)
    margins = np.abs(whole.column("float_margin").to_numpy())
    first = ByMargin(whole).rows(0, 100)
    assert list(first) == sorted(first) and margins[first].max() <= np.delete(margins, first).min()
    assert ByMargin(whole).samples(None, 0, 100).numbers == tuple(first)


def test_a_margin_is_the_lead_of_the_right_class():
    outputs = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    terms = sample_terms([outputs], [outputs], np.array([0, 2, 1, 7]))
    assert terms["margin"].tolist() == terms["float_margin"].tolist() == [1.0, -1.0, -2.0, -math.inf]


def test_one_label_on_an_axis_of_its_own_is_one_label():
    outputs = np.array([[[3.0], [1.0]], [[0.0], [1.0]]])
    assert sample_terms([outputs], [outputs], np.array([[0], [0]]))["margin"].tolist() == [2.0, -1.0]


@pytest.mark.parametrize("metric", ["top1", "top1_drop"])
@pytest.mark.parametrize("moved", [0.05, 0.3, 1.0], ids=str)
def test_the_projection_is_as_far_off_as_it_says(moved, metric):
    off = []
    for seed in range(100):
        whole = scored(moved, seed)
        found = ByMargin(whole).project(metric, seen(whole, COUNT // 8))
        off.append((found.score.value - METRICS[metric](whole).value) / max(found.uncertain, 0.5 / COUNT))
    assert abs(np.mean(off)) < 1.0 and np.std(off) < 1.2


def test_where_no_crossing_is_expected_the_score_is_exact_on_a_part():
    whole = scored(0.05)
    found = ByMargin(whole).project("top1_drop", seen(whole, COUNT // 8))
    assert found.uncertain == 0 and found.score.value == METRICS["top1_drop"](whole).value


@pytest.mark.parametrize("limit", [0.005, 0.05], ids=["refused", "accepted"])
def test_where_no_crossing_is_expected_the_confidence_bound_is_that_of_all_samples(limit):
    whole = scored(0.05)
    target = Target(metric="top1_drop", limit=limit, confidence=0.95)
    found, exact = ByMargin(whole).project("top1_drop", seen(whole, COUNT // 8)), bounds("top1_drop", whole, 0.05).high
    assert found.bound(target, 0.05) == exact and found.verdict(target, 0.05) is target.met_by(exact)


@pytest.mark.parametrize(("moved", "verdict"), [(0.05, True), (0.2, None), (2.0, False)], ids=str)
def test_the_verdict(moved, verdict):
    whole = scored(moved)
    target = Target(metric="top1_drop", limit=0.02)
    assert ByMargin(whole).project("top1_drop", seen(whole, COUNT // 8)).verdict(target) is verdict


def test_a_verdict_on_a_part_is_hardly_ever_wrong():
    wrong = []
    for seed in range(200):
        whole = scored(np.random.default_rng(seed).uniform(0.02, 0.5), seed)
        truth = METRICS["top1_drop"](whole).value
        for limit in (truth - 2 / COUNT, truth - 1 / COUNT, truth, truth + 1 / COUNT, truth + 2 / COUNT):
            target = Target(metric="top1_drop", limit=limit)
            found = ByMargin(whole).project("top1_drop", seen(whole, COUNT // 8)).verdict(target)
            wrong += [] if found is None else [found is not target.met_by(truth)]
    assert len(wrong) > 100 and np.mean(wrong) < 1 / 100


def test_labels_that_are_no_class_change_nothing():
    whole = scored(0.1, labels=np.full(COUNT, CLASSES))
    found = ByMargin(whole).project("top1", seen(whole, COUNT // 8))
    assert found.score.value == 0 and found.uncertain == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_verdict_where_a_plan_computes_what_is_no_number(bad):
    whole = scored(0.1)
    place = whole.column_names.index("margin")
    broken = whole.set_column(place, whole.schema.field(place), pa.array(np.full(COUNT, bad)))
    target = Target(metric="top1_drop", limit=0.01)
    assert ByMargin(whole).project("top1_drop", seen(broken, COUNT // 8)).verdict(target) is None


def test_dense_labels_have_no_margin():
    outputs = np.zeros((2, 3, 4, 4))
    whole = terms_table([sample_terms([outputs], [outputs], np.zeros((2, 4, 4), int))])
    assert not ByMargin.known(whole) and ByMargin.known(scored(0.1))
