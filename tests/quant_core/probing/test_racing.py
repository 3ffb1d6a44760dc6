"""How samples are shared out among probes."""

import numpy as np
import pyarrow as pa
import pytest

from quant_core.probing.racing import loss_estimates, losses_by_probe, open_probes, sample_rounds
from quant_core.storage.schemas import PROBES


@pytest.mark.parametrize(
    ("count", "samples", "macs", "rounds"),
    [
        (2000, "all", 0, [2000]),
        (2000, 300, 0, [300]),
        (200, 300, 0, [200]),
        (31, "auto", 0, [31]),
        (64, "auto", 0, [16, 32, 64]),
        (256, "auto", 0, [16, 32, 64, 128, 256]),
        (450, "auto", 0, [16, 32, 64, 128, 256]),
        (2000, "auto", 0, [62, 124, 248]),
        (100_000, "auto", 0, [3125, 6250, 12500]),
        (2000, "auto", 600_000, [224]),
        (2000, "auto", 1_000, [256]),
    ],
    ids=str,
)
def test_rounds(count, samples, macs, rounds):
    assert sample_rounds(count, samples, macs) == rounds


def table(losses):
    rows = [{"layer": k, "precision": "a8w8", "losses": v, "seconds": 1.0} for k, v in losses.items()]
    return pa.Table.from_pylist(rows, schema=PROBES)


def test_rounds_of_one_probe_are_joined_in_order():
    joined = losses_by_probe([table({"a": [1.0], "b": [2.0]}), table({"a": [3.0, 4.0]})])
    assert {name: list(values) for (name, _), values in joined.items()} == {"a": [1, 3, 4], "b": [2]}


def test_only_layers_close_to_a_neighbour_go_on():
    noise = np.random.default_rng(0).normal(0, 1, (4, 100))
    means = np.array([[1.0], [5.0], [5.01], [9.0]])
    losses = {(name, "a8w8"): row for name, row in zip("abcd", means + noise, strict=True)}
    assert open_probes(losses) == [("b", "a8w8"), ("c", "a8w8")]


def test_layers_that_lose_next_to_nothing_do_not_go_on():
    noise = np.random.default_rng(0).normal(0, 1, (4, 100))
    means = np.array([[1.0], [5.0], [5.01], [900.0]])
    assert open_probes({(name, "a8w8"): row for name, row in zip("abcd", means + noise, strict=True)}) == []


def test_layers_that_differ_by_the_same_on_every_sample_are_settled_however_noisy_the_samples():
    hardness = np.random.default_rng(0).gamma(1, 100, 100)
    assert open_probes({("a", ""): hardness, ("b", ""): hardness * 1.1}) == []


def test_a_layer_that_left_the_race_does_not_come_back():
    close = np.random.default_rng(0).normal(1, 1, (2, 200))
    losses = {("left", ""): close[0][:50], ("on", ""): close[0], ("too", ""): close[1]}
    assert open_probes(losses) == [("on", ""), ("too", "")]


def test_estimates_allow_for_later_samples_being_harder():
    hardness = np.concatenate([np.full(100, 1.0), np.full(100, 3.0)])
    losses = {("early", ""): 5 * hardness[:100], ("late", ""): 4 * hardness}
    estimates = loss_estimates(losses)
    assert estimates["early", ""].mean == pytest.approx(5 * hardness.mean())
    assert estimates["late", ""].mean == pytest.approx(4 * hardness.mean())
    assert estimates["early", ""].samples == 100


@pytest.mark.parametrize("value", [0.0, 2.0], ids=["all zero", "constant"])
def test_estimates_of_constant_losses_are_themselves(value):
    estimate = loss_estimates({("a", ""): np.full(10, value), ("b", ""): np.full(5, value)})
    assert {e.mean for e in estimate.values()} == {value} and {e.standard_error for e in estimate.values()} == {0.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 100])
def test_a_probe_without_a_finite_loss_spoils_no_other(bad, place):
    good = {("a", "a8w8"): RNG_LOSSES[:64], ("b", "a8w8"): RNG_LOSSES, ("c", "a8w8"): RNG_LOSSES[::-1]}
    broken = RNG_LOSSES.copy()
    broken[place] = bad
    both = {("broken", "a8w8"): broken, **good}
    estimates = loss_estimates(both)
    assert not np.isfinite(estimates.pop(("broken", "a8w8")).mean)
    assert estimates == loss_estimates(good)
    assert open_probes(both) == open_probes(good) == [("b", "a8w8"), ("c", "a8w8")]


def test_nothing_but_broken_probes():
    losses = {(name, "a8w8"): np.full(4, np.nan) for name in "ab"}
    assert open_probes(losses) == []
    assert all(np.isnan(estimate.mean) for estimate in loss_estimates(losses).values())


RNG_LOSSES = np.random.default_rng(0).random(128)
