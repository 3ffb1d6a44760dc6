import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_core.runtimes.byte_sums import limited, overflows

FORMS = {
    "conv": ("Conv", (4, 3, 3, 3), None),
    "conv1d": ("Conv", (4, 6, 3), None),
    "matmul": ("MatMul", (6, 5), 0),
    "gemm-transposed": ("Gemm", (5, 6), 1),
    "stack": ("MatMul", (2, 6, 5), 1),
}


def saturating_sum(codes, activations):
    """What vpmaddubsw makes of two products."""
    return np.clip(activations[0] * codes[0] + activations[1] * codes[1], -(2**15), 2**15 - 1)


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_two_neighbours_overflow_where_the_instruction_saturates(first, second):
    codes = np.array([[first], [second]], np.int8)
    ends = [(a, b) for a in (0, 255) for b in (0, 255)]
    saturates = any(saturating_sum((first, second), pair) != pair[0] * first + pair[1] * second for pair in ends)
    assert overflows("MatMul", codes, 0) == saturates


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(5))
def test_limited_codes_do_not_overflow_and_change_only_where_they_would(form, seed):
    op_type, shape, axis = FORMS[form]
    codes = np.clip(np.random.default_rng(seed).normal(0, 60, shape).round(), -128, 127).astype(np.int8)
    found = limited(op_type, codes, axis)
    assert overflows(op_type, codes, axis) and not overflows(op_type, found, axis)
    assert found.dtype == np.int8 and (np.abs(found.astype(int)) <= np.abs(codes.astype(int))).all()
    small = (codes // 2).astype(np.int8)
    assert (limited(op_type, small, axis) == small).all()


def test_a_convolution_is_read_along_its_channels_too():
    codes = np.zeros((1, 2, 1, 3), np.int8)
    codes[0, :, 0, 1] = 100  # neighbours only where channels come last
    assert overflows("Conv", codes, None)
    codes = np.zeros((1, 2, 1, 3), np.int8)
    codes[0, 0, 0, :2] = 100  # neighbours only where channels come first
    assert overflows("Conv", codes, None)


def test_depthwise_convolutions_do_not_saturate_and_their_multiples_do():
    codes = np.full((4, 1, 3, 3), 127, np.int8)
    assert not overflows("Conv", codes, None, group=4)
    assert overflows("Conv", codes, None, group=2)


def test_a_weight_on_the_left_counts_as_one_that_overflows():
    assert overflows("MatMul", np.zeros((2, 2), np.int8), None)
