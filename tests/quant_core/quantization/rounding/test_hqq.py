import numpy as np
import pytest

from quant_core.numerics import QParams, choose_qparams, dequantize, quantize
from quant_core.precision import DataType
from quant_core.quantization.rounding.hqq import half_quadratic_qparams


def error(values, grid):
    each = QParams(grid.dtype, grid.scale[..., None], grid.zero_point[..., None])
    return np.square(dequantize(quantize(values, each), each) - values).sum(axis=-1)


@pytest.mark.parametrize("kind", [DataType.INT4, DataType.UINT4], ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_fitted_grid_is_nearer_to_values_with_outliers_at_any_size(kind, symmetric, size):
    values = (np.random.default_rng(0).standard_t(3, (40, 32)) * size).astype(np.float32)
    start = choose_qparams(values.min(-1), values.max(-1), kind, symmetric)
    fitted = half_quadratic_qparams(values, start, symmetric)
    before, after = error(values, start), error(values, fitted)
    assert (after <= before * (1 + 1e-5)).all()
    assert after.sum() < 0.97 * before.sum()
    assert not symmetric or not kind.signed or not fitted.zero_point.any()
    smallest, largest = kind.code_range
    assert fitted.zero_point.min() >= smallest and fitted.zero_point.max() <= largest


def test_values_that_are_all_0_keep_their_grid():
    zeros = np.zeros((2, 8), np.float32)
    start = choose_qparams(zeros.min(-1), zeros.max(-1), DataType.INT4, False)
    fitted = half_quadratic_qparams(zeros, start, False)
    assert (error(zeros, fitted) == 0).all() and (fitted.scale > 0).all()
