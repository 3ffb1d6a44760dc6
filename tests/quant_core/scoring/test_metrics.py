"""Metrics, against their formulas written out and against resampling."""

import math

import numpy as np
import pytest

from quant_core.scoring.metrics import METRICS, additive, scores_of
from quant_core.scoring.terms import sample_terms, terms_table
from quant_core.storage.schemas import SCORES

RNG = np.random.default_rng(0)
FLOAT = RNG.normal(size=(300, 10)).astype(np.float32)
QUANTIZED = (FLOAT + RNG.normal(scale=0.3, size=FLOAT.shape)).astype(np.float32)
LABELS = RNG.integers(0, 10, 300)
DENSE_FLOAT = RNG.normal(size=(20, 5, 4, 3)).astype(np.float32)
DENSE = (DENSE_FLOAT + RNG.normal(scale=0.3, size=DENSE_FLOAT.shape)).astype(np.float32)
DENSE_LABELS = RNG.integers(0, 5, (20, 4, 3))


def scored(reference, quantized, labels=None):
    return terms_table([sample_terms([reference], [quantized], labels)])


def softmax(values):
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def l2(p, q, labels):
    return np.mean([np.linalg.norm((a - b).ravel()) for a, b in zip(p, q, strict=True)])


def sqnr_db(p, q, labels):
    return 10 * np.log10(np.sum(p**2) / np.sum((p - q) ** 2))


def kl(p, q, labels):
    a, b = softmax(p), softmax(q)
    return np.mean(np.sum(a * np.log(a / b), axis=1))


def cosine(p, q, labels):
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(p, q, strict=True)]
    return 1 - np.mean([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs])


def top1(p, q, labels):
    return np.mean(q.argmax(axis=1) == labels)


def top1_drop(p, q, labels):
    return np.mean(p.argmax(axis=1) == labels) - np.mean(q.argmax(axis=1) == labels)


FORMULAS = {formula.__name__: formula for formula in (l2, sqnr_db, kl, cosine, top1, top1_drop)}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("reference", "quantized", "labels"),
    [(FLOAT, QUANTIZED, LABELS), (DENSE_FLOAT, DENSE, DENSE_LABELS)],
    ids=["one vector a sample", "one vector a pixel"],
)
def test_a_metric_is_its_formula(name, reference, quantized, labels):
    expected = FORMULAS[name](reference.astype(np.float64), quantized.astype(np.float64), labels)
    assert METRICS[name](scored(reference, quantized, labels)).value == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_standard_error_is_the_spread_over_resampled_data(name):
    table, rng = scored(FLOAT, QUANTIZED, LABELS), np.random.default_rng(1)
    draws = [METRICS[name](table.take(rng.integers(0, 300, 300))).value for _ in range(400)]
    assert METRICS[name](table).score.standard_error == pytest.approx(np.std(draws), rel=0.2)


def logits(right):
    """Outputs of two classes whose largest is class 0 exactly where `right`."""
    return np.where(np.asarray(right)[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)


@pytest.mark.parametrize(
    ("lost", "of", "written"), [(20, 2000, 0.01), (1, 10, 0.1), (5, 1000, 0.005), (3, 1000, 0.003)]
)
def test_a_drop_is_the_fraction_as_it_is_written(lost, of, written):
    always = logits([True] * of)
    drop = METRICS["top1_drop"](scored(always, logits([sample >= lost for sample in range(of)]), np.zeros(of, int)))
    assert drop.value == written


def test_samples_won_make_up_for_samples_lost():
    table = scored(logits([True, False, False, False]), logits([False, True, True, False]), np.zeros(4, int))
    assert METRICS["top1_drop"](table).value == -0.25


def test_equal_outputs_lose_nothing():
    found = scores_of(scored(FLOAT, FLOAT, LABELS))
    assert (found["l2"], found["kl"], found["top1_drop"], found["sqnr_db"]) == (0, 0, 0, math.inf)
    assert found["cosine"] == pytest.approx(0, abs=1e-12)


ZERO, ONE = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("reference", "quantized", "expected"),
    [(ZERO, ZERO, 0.0), (ZERO, ONE, 1.0), (ONE, ZERO, 1.0), (ONE, -ONE, 2.0)],
    ids=["both zero", "float zero", "quantized zero", "opposite"],
)
def test_cosine_of_vectors_without_direction(reference, quantized, expected):
    assert METRICS["cosine"](scored(reference, quantized)).value == pytest.approx(expected)


def test_a_zero_signal_has_the_worst_ratio():
    assert METRICS["sqnr_db"](scored(ZERO, ONE)).value == -math.inf


def test_kl_survives_logits_no_exponential_can_hold():
    far = np.array([[1e4, 0.0, -1e4]], np.float32)
    assert METRICS["kl"](scored(far, far[:, ::-1])).value == pytest.approx(2e4)


def test_one_sample_has_no_standard_error():
    table = scored(FLOAT[:1], QUANTIZED[:1], LABELS[:1])
    assert [METRICS[name](table).score.standard_error for name in METRICS] == [None] * len(METRICS)


def test_a_nan_in_the_output_meets_no_target():
    broken = QUANTIZED.copy()
    broken[3, 3] = np.nan
    assert all(math.isnan(scores_of(scored(FLOAT, broken))[name]) for name in ("l2", "sqnr_db", "kl", "cosine"))


def test_without_labels_there_is_no_top1():
    table = scored(FLOAT, QUANTIZED)
    assert table.schema.equals(SCORES, check_metadata=True)
    assert list(scores_of(table)) == ["l2", "sqnr_db", "kl", "cosine"]
    assert list(scores_of(scored(FLOAT, QUANTIZED, LABELS))) == list(METRICS)


def test_integer_outputs_are_compared_as_numbers():
    assert METRICS["l2"](scored(np.array([[3, 0]], np.uint8), np.array([[0, 4]], np.uint8))).value == 5


@pytest.mark.parametrize("metric", ["l2", "sqnr_db"])
def test_additive_errors_of_independent_changes_add_up(metric):
    """Disturbances of different output elements, one after the other and both at once."""
    left, right = np.zeros_like(FLOAT), np.zeros_like(FLOAT)
    left[:, 0], right[:, 1] = 0.5, 0.25
    each = [
        additive(metric, METRICS[metric](scored(FLOAT, FLOAT + change)).value) for change in (left, right, left + right)
    ]
    assert each[0] + each[1] == pytest.approx(each[2], rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_additive_keeps_which_of_two_scores_is_better(metric):
    worse, better = (0.5, 0.25) if metric != "sqnr_db" else (20, 30)
    assert additive(metric, worse) > additive(metric, better)
    assert math.isnan(additive(metric, math.nan))
