"""Minmax and percentile ranges: by definition, and beside ONNX Runtime's own calibrators."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

from quant_core.calibration.histogram import Histogram
from quant_core.calibration.range_methods import range_method
from quant_core.config import QuantizationConfig
from quant_core.numerics import choose_qparams
from quant_core.precision import DataType
from tests.models import build

MINMAX = range_method(QuantizationConfig(calibrate="minmax"))
PERCENTILE = range_method(QuantizationConfig(calibrate="percentile"))
NARROW = [DataType.INT8, DataType.UINT8]
WIDE = [DataType.INT16, DataType.UINT16]


def tailed(count=270_000):
    """Mostly ordinary values, one in 20,000 far away."""
    values = np.random.default_rng(0).normal(size=count).astype(np.float32)
    values[::20_000] *= 40
    return values


def covered(qparams):
    """The (low, high) that an asymmetric 8-bit type spans."""
    low, high = qparams.dtype.code_range
    return float((low - qparams.zero_point) * qparams.scale), float((high - qparams.zero_point) * qparams.scale)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("dtype", NARROW + WIDE, ids=lambda kind: kind.name)
@settings(deadline=None)
@given(values=hnp.arrays(np.float32, 20, elements=st.floats(-1e6, 1e6, width=32)))
def test_minmax_is_what_was_seen(dtype, symmetric, values):
    assert MINMAX(Histogram.of(values), dtype, symmetric) == choose_qparams(
        values.min(), values.max(), dtype, symmetric
    )


@pytest.mark.parametrize("dtype", WIDE, ids=lambda kind: kind.name)
def test_percentile_of_16_bits_cuts_nothing_off(dtype):
    histogram = Histogram.of(tailed())
    assert PERCENTILE(histogram, dtype, False) == MINMAX(histogram, dtype, False)


@pytest.mark.parametrize("dtype", NARROW, ids=lambda kind: kind.name)
def test_percentile_cuts_the_same_share_off_both_tails(dtype):
    ordered = np.sort(tailed(2_000_000))
    histogram = Histogram.of(ordered)
    chosen = PERCENTILE(histogram, dtype, False)
    low, high = covered(chosen)
    # A share of 0.000005 is ten of them: the bound is between the tenth and the eleventh. The zero point is rounded.
    slack = np.ldexp(1.0, histogram.exponent) + chosen.scale / 2
    assert ordered[9] - slack <= low <= ordered[10] + slack
    assert ordered[-11] - slack <= high <= ordered[-10] + slack


class Feeds:
    def __init__(self, batches):
        self.batches = [{"x": batch} for batch in batches]

    def get_next(self):
        return self.batches.pop(0) if self.batches else None


@pytest.fixture
def peers(tmp_path):
    """Ranges of x and y = Relu(x) that an ONNX Runtime calibrator finds, and the histograms we find."""
    onnx.save(build("(float[N,1000] x) => (float[N,1000] y) { y = Relu(x) }"), tmp_path / "model.onnx")

    def calibrated(method, **options):
        batches = np.array_split(tailed().reshape(-1, 1000), 5)
        calibrator = create_calibrator(
            tmp_path / "model.onnx",
            ["Relu"],
            augmented_model_path=str(tmp_path / "augmented.onnx"),
            calibrate_method=method,
            extra_options=options,
        )
        calibrator.collect_data(Feeds(batches))
        found = calibrator.compute_data().data
        theirs = {name: tuple(np.asarray(end).item() for end in found[name].range_value) for name in ("x", "y")}
        ours = {}
        for batch in batches:
            for name, part in (("x", batch), ("y", np.maximum(batch, 0))):
                histogram = Histogram.of(part)
                ours[name] = ours[name].merge(histogram) if name in ours else histogram
        return theirs, ours

    return calibrated


@pytest.mark.parametrize("name", ["x", "y"])
def test_minmax_equals_onnx_runtimes(peers, name):
    theirs, ours = peers(CalibrationMethod.MinMax)
    assert (ours[name].low, ours[name].high) == theirs[name]
    assert MINMAX(ours[name], DataType.INT8, False) == choose_qparams(*theirs[name], DataType.INT8, False)


@pytest.mark.parametrize("name", ["x", "y"])
def test_percentile_is_within_one_bin_of_onnx_runtimes(peers, name):
    bins = 20_000
    theirs, ours = peers(CalibrationMethod.Percentile, num_bins=bins, percentile=99.999, symmetric=False)
    chosen = PERCENTILE(ours[name], DataType.INT8, False)
    # One bin of theirs, one of ours, and the rounding of the zero point.
    slack = 2 * max(-ours[name].low, ours[name].high) / bins + np.ldexp(1.0, ours[name].exponent) + chosen.scale / 2
    assert covered(chosen) == pytest.approx(theirs[name], abs=slack)
