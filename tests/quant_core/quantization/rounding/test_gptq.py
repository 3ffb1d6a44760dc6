"""Second-order rounding: less error at the output than the nearest codes give, and never worse codes than asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from quant_core.numerics import QParams
from quant_core.precision import DataType
from quant_core.quantization.rounding.gptq import second_order_codes


def qparams(values, dtype=DataType.INT4, zero_point=0):
    smallest, largest = dtype.code_range
    scale = np.full(values.shape, 2.1 * np.abs(values).max() / (largest - smallest), np.float32)
    return QParams(dtype, scale, np.full(values.shape, zero_point))


def correlated(width: int, samples: int = 400) -> np.ndarray:
    """Second moments of inputs that resemble their neighbours, and are not zero on average."""
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((samples, width)) @ rng.standard_normal((width, width)) * 0.3 + rng.random(width)
    return inputs.T @ inputs


def output_error(values, codes, found: QParams, moments) -> float:
    difference = values - (codes - found.zero_point) * found.scale
    return float(np.einsum("oi,ij,oj->", difference, moments, difference))


def nearest(values, found: QParams):
    return np.clip(np.rint(values / found.scale) + found.zero_point, *found.dtype.code_range)


@pytest.mark.parametrize("width", [5, 70, 150], ids=lambda width: f"{width}-inputs")
@pytest.mark.parametrize(("dtype", "zero"), [(DataType.INT4, 0), (DataType.UINT4, 7), (DataType.INT8, 0)])
def test_outputs_are_nearer_than_with_the_nearest_codes(width, dtype, zero):
    values = np.random.default_rng(0).standard_normal((6, width)).astype(np.float32)
    found, moments = qparams(values, dtype, zero), correlated(width)
    codes = second_order_codes(values, moments, found)
    assert codes.min() >= dtype.code_range[0]
    assert codes.max() <= dtype.code_range[1]
    assert output_error(values, codes, found, moments) < 0.8 * output_error(
        values, nearest(values, found), found, moments
    )


def test_independent_inputs_get_the_nearest_codes():
    values = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    found = qparams(values)
    np.testing.assert_array_equal(
        second_order_codes(values, np.diag(np.arange(9.0, 0, -1)), found), nearest(values, found)
    )


def test_inputs_that_were_always_zero_get_the_nearest_codes():
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    found, moments = qparams(values), correlated(6)
    moments[2], moments[:, 2] = 0, 0
    assert (second_order_codes(values, moments, found)[:, 2] == nearest(values, found)[:, 2]).all()
    np.testing.assert_array_equal(second_order_codes(values, np.zeros((6, 6)), found), nearest(values, found))


def test_it_is_nearer_the_best_of_all_codes_than_the_nearest():
    reached, best, plain = 0.0, 0.0, 0.0
    for seed in range(8):
        values = np.random.default_rng(seed).standard_normal((1, 6)).astype(np.float32)
        found, moments = qparams(values), correlated(6)
        floor = np.floor(values / found.scale)
        every = [floor + np.array([step]) for step in itertools.product([-1, 0, 1, 2], repeat=6)]
        best += min(output_error(values, np.clip(codes, -8, 7), found, moments) for codes in every)
        reached += output_error(values, second_order_codes(values, moments, found), found, moments)
        plain += output_error(values, nearest(values, found), found, moments)
    assert best <= reached < best + 0.5 * (plain - best)


def test_values_with_scales_of_their_own_are_rounded_to_their_own_grid():
    values = np.random.default_rng(2).standard_normal((3, 8)).astype(np.float32)
    fine = qparams(values)
    halves = QParams(
        fine.dtype, np.repeat(fine.scale[:, ::4] * [[1, 0.5]], 4, axis=1).astype(np.float32), fine.zero_point
    )
    np.testing.assert_array_equal(second_order_codes(values, np.eye(8), halves), nearest(values, halves))
