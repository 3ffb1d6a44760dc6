"""Methods that choose a range by what it costs, and scales that are powers of two."""

from __future__ import annotations

import contextlib
import io
from functools import reduce
from itertools import permutations
from typing import get_args

import numpy as np
import onnx
import onnxruntime.quantization.calibrate as ort_calibrate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from quant_core.calibration.distortion import divergence, squared_error
from quant_core.calibration.histogram import Histogram
from quant_core.calibration.power_of_two import multiples, power_of_two, round_up
from quant_core.calibration.range_methods import METHODS, range_method
from quant_core.calibration.weight_ranges import constant_qparams
from quant_core.config import QuantizationConfig
from quant_core.numerics import QParams, choose_qparams, dequantize, quantize
from quant_core.precision import DataType
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import bench

INT8, UINT8, INT16 = DataType.INT8, DataType.UINT8, DataType.INT16
KINDS = pytest.mark.parametrize(
    ("dtype", "symmetric"),
    [(INT8, True), (INT8, False), (UINT8, False), (INT16, True)],
    ids=["int8", "int8-asymmetric", "uint8", "int16"],
)


def spread(count=100_000):
    """Values as tensors of networks have them, by name."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(count)
    found = {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "laplace": rng.laplace(size=count),
        "sigmoid": 1 / (1 + np.exp(-3 * normal)),
        "silu": 2 * normal / (1 + np.exp(-2 * normal)),
        "lognormal": rng.lognormal(size=count),
        "student": rng.standard_t(3, count),
        "one-outlier": np.append(normal, 1000),
        "far-from-zero": normal * 0.3 + 4,
        "negative": -np.abs(normal),
        "few": rng.standard_normal(100),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


DATA = spread()
data = pytest.mark.parametrize("name", DATA)


def method(name, **config):
    return range_method(QuantizationConfig(calibrate=name, **config))


def actual_error(values, qparams):
    return float(np.square(dequantize(quantize(values, qparams), qparams).astype(np.float64) - values).sum())


def test_every_name_the_configuration_knows_has_a_method():
    assert set(METHODS) == set(get_args(QuantizationConfig.model_fields["calibrate"].annotation))


# ---- what a range costs


@data
@KINDS
@pytest.mark.parametrize("share", [1.0, 0.4], ids=["everything", "saturating"])
def test_expected_error_is_the_error_of_the_values(name, dtype, symmetric, share):
    values = DATA[name]
    histogram = Histogram.of(values)
    qparams = choose_qparams(histogram.low * share, histogram.high * share, dtype, symmetric)
    # Exact zeros cost nothing in truth, and a little where they are taken for small numbers.
    values = values[values != 0]
    expected = squared_error(Histogram.of(values), qparams)
    assert expected == pytest.approx(actual_error(values, qparams), rel=0.2 if name == "few" else 0.03)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7])
def test_expected_error_of_values_that_are_all_the_same(value):
    values = np.full(10, value, np.float32)
    for qparams in (choose_qparams(-1, 1, INT8, True), choose_qparams(-4, 2, INT8, False)):
        assert squared_error(Histogram.of(values), qparams) == pytest.approx(actual_error(values, qparams), rel=0.01)


def test_a_distribution_that_codes_keep_apart_does_not_diverge():
    values = np.repeat(np.arange(-100, 101), 5).astype(np.float32)
    exact = QParams(INT8, np.float32(1), np.int64(0))
    histogram = Histogram.of(values)
    assert divergence(histogram, exact) == pytest.approx(0, abs=1e-12)
    assert divergence(histogram, QParams(INT8, np.float32(4), np.int64(0))) == pytest.approx(0, abs=0.02)
    assert divergence(histogram, QParams(INT8, np.float32(0.7), np.int64(0))) > 0.01
    assert divergence(histogram, QParams(INT8, np.float32(0.1), np.int64(0))) == np.inf


# ---- mse and entropy


@data
@KINDS
def test_mse_costs_no_more_than_any_other_range(name, dtype, symmetric):
    histogram = Histogram.of(DATA[name])
    least = squared_error(histogram, method("mse")(histogram, dtype, symmetric))
    for other in ("minmax", "percentile", "entropy"):
        assert least <= squared_error(histogram, method(other)(histogram, dtype, symmetric)) * 1.01, other
    for share in 2.0 ** -(np.arange(64) / 8):
        scanned = choose_qparams(histogram.low * share, histogram.high * share, dtype, symmetric)
        assert least <= squared_error(histogram, scanned) * 1.01, share


@pytest.mark.parametrize("name", ["laplace", "student", "lognormal"])
def test_mse_of_long_tails_is_a_quarter_less_than_of_minmax(name):
    histogram = Histogram.of(DATA[name])
    chosen, everything = (method(how)(histogram, INT8, True) for how in ("mse", "minmax"))
    assert actual_error(DATA[name], chosen) < 0.75 * actual_error(DATA[name], everything)


def ort_entropy(values, bins=4096, codes=256):
    """ONNX Runtime's, with as many bins as ours and the codes of int8. (Its default of 128 bins cuts nothing off.)"""
    collector = ort_calibrate.HistogramCollector("entropy", True, bins, codes, 99.999, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": [values]})
        found = collector.compute_collection_result()
    return choose_qparams(float(found["x"][0]), float(found["x"][1]), INT8, True)


@pytest.mark.parametrize("name", ["normal", "relu", "lognormal"])
def test_entropy_loses_no_more_than_onnx_runtimes(name):
    values = DATA[name]
    ours, theirs = method("entropy")(Histogram.of(values), INT8, True), ort_entropy(values)
    assert actual_error(values, ours) <= actual_error(values, theirs) * 1.02


@data
@KINDS
def test_entropy_keeps_most_values(name, dtype, symmetric):
    values = DATA[name]
    qparams = method("entropy")(Histogram.of(values), dtype, symmetric)
    low, high = ((code - qparams.zero_point) * qparams.scale for code in dtype.code_range)
    assert np.mean((values >= low - qparams.scale) & (values <= high + qparams.scale)) > 0.95


@pytest.mark.parametrize(("name", "config"), [("entropy", {}), ("percentile", {"percentile": 99})])
def test_16_bits_cut_nothing_off(name, config):
    histogram = Histogram.of(DATA["student"])
    assert method(name, **config)(histogram, INT16, True) == method("minmax")(histogram, INT16, True)


def test_a_lower_percentile_cuts_more_off():
    histogram = Histogram.of(DATA["normal"])
    scales = [method("percentile", percentile=share)(histogram, INT8, True).scale for share in (90, 99, 99.999, 100)]
    assert scales == sorted(scales)
    assert scales[0] * 127 == pytest.approx(1.645, abs=0.02)  # the 95th percentile of a normal distribution
    assert scales[-1] == method("minmax")(histogram, INT8, True).scale


@pytest.mark.parametrize("name", METHODS)
@KINDS
def test_shards_in_any_order_give_the_same_range(name, dtype, symmetric):
    parts = [Histogram.of(part) for part in np.split(DATA["student"] * np.linspace(1, 9, 100_000, dtype=np.float32), 4)]
    found = {
        (chosen.scale.tobytes(), chosen.zero_point.tobytes())
        for order in list(permutations(parts))[::9]
        for chosen in [method(name)(reduce(Histogram.merge, order), dtype, symmetric)]
    }
    assert len(found) == 1


@pytest.mark.parametrize("name", METHODS)
@KINDS
@pytest.mark.parametrize("value", [0.0, 2.5, -1e-30, 1e20])
def test_a_tensor_of_one_value_has_a_finite_scale(name, dtype, symmetric, value):
    qparams = method(name)(Histogram.of(np.full(7, value, np.float32)), dtype, symmetric)
    assert 0 < qparams.scale < np.inf


# ---- powers of two


@settings(deadline=None)
@given(st.floats(2.0**-120, 2.0**120, width=32))
def test_rounding_up_gives_the_next_power_of_two(scale):
    power = float(round_up(np.float32(scale)))
    assert np.frexp(power)[0] == 0.5
    assert power / 2 < scale <= power


def test_nearest_is_nearest_in_exponent():
    scales = np.float32([1, 1.41, 1.42, 2.82, 2.84, 0.7, 0.71])
    rounded = power_of_two(QParams(INT8, scales, np.zeros(7, np.int64)), nearest=True)
    assert rounded.scale.tolist() == [1, 1, 2, 2, 4, 0.5, 1]


@data
@KINDS
def test_nonoverflow_never_saturates(name, dtype, symmetric):
    values = DATA[name]
    qparams = method("pow2-nonoverflow")(Histogram.of(values), dtype, symmetric)
    assert np.frexp(qparams.scale)[0] == 0.5
    low, high = ((code - qparams.zero_point) * float(qparams.scale) for code in dtype.code_range)
    slack = qparams.scale * (0 if symmetric else 0.5)  # a zero point is rounded
    assert low - slack <= values.min()
    assert values.max() <= high + slack


def test_nearest_saturates_where_up_does_not():
    histogram = Histogram.of(np.float32([-1.4, 1.4]) * 127)
    assert method("pow2-nonoverflow")(histogram, INT8, True).scale == 2
    assert method("pow2-nonoverflow", power_of_two_rounding="nearest")(histogram, INT8, True).scale == 1


@data
@KINDS
@pytest.mark.parametrize("rounding", ["up", "nearest"])
def test_minmse_is_the_best_of_quarks_five(name, dtype, symmetric, rounding):
    histogram = Histogram.of(DATA[name])
    start = method("pow2-nonoverflow", power_of_two_rounding=rounding)(histogram, dtype, symmetric)
    chosen = method("pow2-minmse", power_of_two_rounding=rounding)(histogram, dtype, symmetric)
    assert float(chosen.scale / start.scale) in (2, 1, 1 / 2, 1 / 4, 1 / 8)
    least = min(actual_error(DATA[name], candidate) for candidate in multiples(start))
    # Two candidates that cost nearly the same may change places on the histogram.
    assert actual_error(DATA[name], chosen) <= least * 1.02


def test_minmse_with_quarks_rounding_does_not_reckon_with_the_code_minus_128():
    noise = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    histogram = Histogram.of(np.concatenate([noise, np.full(1000, -2, np.float32)]))
    chosen = {rounding: method("pow2-minmse", power_of_two_rounding=rounding) for rounding in ("up", "nearest")}
    scales = {rounding: float(choose(histogram, INT8, True).scale) for rounding, choose in chosen.items()}
    assert scales == {"up": 2.0**-6, "nearest": 2.0**-5}  # 128 steps of the first


QUARK = {
    # AMD Quark 0.13, Int8Spec(scale_type=PowerOf2), on 64 samples of two of our models: -log2 of every scale. Its
    # scale for the pool `d` is left out: there it takes the input's, after calibration.
    ("chain", "pow2-nonoverflow"): "w1 8 w2 8 w3 8 w4 7 x 5 a1 5 b1_ 5 c1_ 6 e 8 y 8",
    ("chain", "pow2-minmse"): "w1 7 w2 8 w3 7 w4 7 x 5 a1 4 b1_ 5 c1_ 6 e 7 y 7",
    ("grouped", "pow2-nonoverflow"): "w1 7 w2 6 w3 8 x 5 r 6 b 6 s 6 y 6",
    ("grouped", "pow2-minmse"): "w1 7 w2 6 w3 7 x 5 r 6 b 5 s 6 y 6",
}


@pytest.mark.parametrize(("name", "how"), QUARK, ids=map("-".join, QUARK))
def test_scales_are_quarks_with_its_rounding(tmp_path, name, how):
    model = MODELS[name]()
    quark = {"wide": "a8w8", "calibrate": how, "power_of_two_rounding": "nearest", "per_channel": False}
    made = bench(model, tmp_path, samples(model, 64), **quark)
    layer_of = {layer.weight: layer.name for layer in made.layers}
    written = QUARK[name, how].split()
    for tensor, position in zip(written[::2], map(int, written[1::2]), strict=True):
        if tensor in layer_of:
            found = made.quantizer.weight(layer_of[tensor], made.config.wide).qparams
        else:
            found = made.quantizer.activation(tensor, INT8)
        assert found.scale == 2.0**-position, tensor


@pytest.mark.parametrize("how", ["pow2-nonoverflow", "pow2-minmse"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("name", ["chain", "transformer", "concat", "transposed"])
def test_every_scale_in_the_file_is_a_power_of_two(workbench, name, how, per_channel):
    made = workbench(name, calibrate=how, per_channel=per_channel)
    model = made.exported(made.plan(*made.names[::2]))
    readers = [node.input[1] for node in model.graph.node if node.op_type.endswith("uantizeLinear")]
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert readers
    assert all((np.frexp(scales[name])[0] == 0.5).all() for name in readers)


def test_a_weight_scale_that_grows_for_a_bias_stays_a_power_of_two(tmp_path):
    model = build(
        "(float[N,2] x) => (float[N,2] y) { [m] y = Gemm(x, w, b) }",
        {"w": np.float32([[1e-7, 0.5], [1e-8, -0.25]]), "b": np.float32([1e3, -0.5])},
    )
    made = bench(model, tmp_path, calibrate="pow2-nonoverflow", per_channel=True)
    weight, bias = (
        made.quantizer.weight("m", made.config.wide),
        made.quantizer.bias(made.layers[0].nodes[0], "m", made.config.wide),
    )
    assert (np.frexp(weight.qparams.scale)[0] == 0.5).all()
    np.testing.assert_allclose(bias.codes * bias.qparams.scale.astype(np.float64), [1e3, -0.5], rtol=1e-5)


# ---- weights


GRANULARITY = {"per-tensor": (None, None), "per-channel": (1, None), "blocks": (0, 16), "ragged-blocks": (0, 32)}


def restored_error(values, axis, block, dtype, **config):
    qparams = constant_qparams(values, dtype, True, QuantizationConfig(**config), axis, block)
    return np.square(dequantize(quantize(values, qparams, axis), qparams, axis) - values)


@pytest.mark.parametrize(("axis", "block"), GRANULARITY.values(), ids=GRANULARITY)
@pytest.mark.parametrize("dtype", [DataType.INT4, DataType.UINT4], ids=lambda kind: kind.name)
def test_mse_of_weights_is_least_for_each_scale(axis, block, dtype):
    values = np.random.default_rng(0).standard_t(4, (80, 6)).astype(np.float32)
    best, plain = (restored_error(values, axis, block, dtype, calibrate_weights=how) for how in ("mse", "minmax"))
    if block is None:
        assert (best.sum(0 if axis == 1 else None) <= plain.sum(0 if axis == 1 else None)).all()
    else:  # the last block may be shorter than it was taken for
        whole = 80 // block * block
        blocks = (whole // block, block, 6)
        assert (best[:whole].reshape(blocks).sum(1) <= plain[:whole].reshape(blocks).sum(1)).all()
    assert best.sum() < plain.sum()


@pytest.mark.parametrize(("axis", "block"), GRANULARITY.values(), ids=GRANULARITY)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_block_holds_its_extremes(axis, block, seed):
    values = np.random.default_rng(seed).normal(size=(40, 3)).astype(np.float32)
    error = restored_error(values, axis, block, DataType.INT4)
    scale = constant_qparams(values, DataType.INT4, True, QuantizationConfig(), axis, block).scale
    assert np.sqrt(error).max() <= scale.max() * 0.50001
    assert scale.shape == {None: (), 1: (3,)}.get(axis, (-(-40 // (block or 1)), 3))


# ---- settings that would do nothing


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"calibrate": "mse", "percentile": 99.0}, "percentile is for calibrate='percentile'"),
        ({"power_of_two_rounding": "nearest"}, "power_of_two_rounding is for the pow2 methods"),
        ({"calibrate": "pow2-minmse", "calibrate_weights": "mse"}, "chooses the scales of weights too"),
        ({"block_size": 24}, "block_size must be a power of two"),
        ({"block_size": 8}, "greater than or equal to 16"),
        ({"percentile": 30}, "greater than 50"),
    ],
    ids=str,
)
def test_a_setting_that_would_be_ignored_is_refused(config, reason):
    with pytest.raises(ValidationError, match=reason):
        QuantizationConfig(**config)


def test_each_type_gets_its_own_range():
    histogram = Histogram.of(DATA["normal"])
    for name in ("entropy", "mse", "pow2-minmse"):
        narrow, wide = (method(name)(histogram, dtype, True) for dtype in (INT8, INT16))
        assert narrow.scale * 127 < wide.scale * 32767 * 0.9, name
