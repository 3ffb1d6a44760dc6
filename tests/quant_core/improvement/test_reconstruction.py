"""A weight chosen by the moments of what it reads and what the float layer puts out."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.improvement.reconstruction import Moments, reconstructed
from quant_core.numerics import choose_qparams, dequantize, quantize
from quant_core.precision import DataType

OUTPUTS, WIDTH, COLUMNS = 4, 12, 300


def moments(columns, results):
    return Moments(
        inputs=columns.T @ columns,
        outputs=results.T @ columns,
        input_totals=columns.sum(axis=0),
        output_totals=results.sum(axis=0),
        output_power=float((results**2).sum()),
        count=len(columns),
    )


@pytest.fixture(params=range(3))
def layer(request):
    """A float weight and bias, what the layer reads in float, and what it reads in a model that has lost something."""
    generator = np.random.default_rng(request.param)
    mixing = generator.standard_normal((WIDTH, WIDTH))
    exact = generator.standard_normal((COLUMNS, WIDTH)) @ mixing + 0.5
    lossy = exact * 0.9 + 0.3 + 0.1 * generator.standard_normal(exact.shape)
    weight = generator.standard_normal((OUTPUTS, WIDTH)).astype(np.float32)
    return weight, generator.standard_normal(OUTPUTS), exact, lossy


def test_moments_say_the_error_and_add_up(layer):
    weight, bias, exact, lossy = layer
    results = exact @ weight.T + bias
    other, shift = weight + 0.1, bias - 0.2
    told = (moments(lossy[:100], results[:100]) + moments(lossy[100:], results[100:])).squared_error(other, shift)
    assert told == pytest.approx(np.square(lossy @ other.T + shift - results).sum())


@pytest.mark.parametrize(("free_scales", "free_bias"), [(False, False), (False, True), (True, False), (True, True)])
def test_it_makes_up_for_what_was_lost_before(layer, free_scales, free_bias):
    weight, bias, exact, lossy = layer
    known = moments(lossy, exact @ weight.T + bias)
    start = choose_qparams(-np.abs(weight).max(axis=1), np.abs(weight).max(axis=1), DataType.INT4, True)
    nearest = dequantize(quantize(weight, start, 0), start, 0)
    spread = type(start)(
        start.dtype, *(np.repeat(part[:, None], WIDTH, axis=1) for part in (start.scale, start.zero_point))
    )
    rows = reconstructed(weight, bias, known, spread, free_scales, free_bias)
    assert known.squared_error(rows.values, rows.bias) < 0.7 * known.squared_error(nearest, bias)
    assert (rows.codes == np.rint(rows.codes)).all()
    assert -8 <= rows.codes.min() <= rows.codes.max() <= 7
    assert np.array_equal(rows.qparams.scale, spread.scale) is not free_scales
    assert np.array_equal(rows.bias, bias) is not free_bias
    if free_bias:
        assert (lossy @ rows.values.T + rows.bias).mean(axis=0) == pytest.approx((exact @ weight.T + bias).mean(axis=0))
