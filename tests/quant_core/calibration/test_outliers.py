"""Which tensors have outliers, by their histograms."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.calibration.histogram import Histogram, histogram_table
from quant_core.calibration.outliers import BULK, tensor_spreads


def spreads(**values):
    table = histogram_table({name: Histogram.of(np.asarray(one, np.float32)) for name, one in values.items()})
    return {spread.tensor: spread for spread in tensor_spreads(table)}


def test_the_ratio_is_that_of_the_largest_magnitude_to_the_quantile_of_magnitudes():
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    values[7] = -40.0
    found = spreads(x=values)["x"]
    exact = np.quantile(np.abs(values), BULK)
    assert found.largest == 40.0
    assert found.bulk == pytest.approx(exact, abs=64 / 4096)
    assert found.ratio == pytest.approx(40 / exact, rel=0.01) and found.has_outliers


def test_the_widest_tensor_comes_first_and_an_even_one_has_no_outliers():
    even, peak = np.linspace(-1, 1, 5000), np.full(5000, 0.01)
    peak[0] = 3.0
    found = spreads(even=even, peak=peak)
    assert list(found) == ["peak", "even"]
    assert not found["even"].has_outliers and found["peak"].bits == pytest.approx(np.log2(300), abs=0.2)


def test_of_few_values_all_but_the_largest_are_the_bulk():
    assert spreads(x=[0.5, 1.0, -1.0, 12.0])["x"].ratio == pytest.approx(12.0, rel=0.01)
    assert spreads(x=[12.0])["x"].ratio == 1.0


@pytest.mark.parametrize("value", [0.0, 2.0, -2.0])
def test_a_tensor_of_one_value_has_no_outliers(value):
    assert spreads(x=np.full(10, value))["x"].ratio == 1.0
