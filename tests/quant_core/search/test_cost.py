"""What plans cost."""

import math

import pytest

from quant_core.config.quantization import QuantizationConfig
from quant_core.model.layers import Layer
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.weights import WeightKind
from quant_core.runtimes.storage import storage
from quant_core.search.cost import counted_cost
from tests.models import build
from tests.quant_core.workbench import bench

WIDE, NARROW, NARROWEST = (Precision.parse(text) for text in ("a16w8", "a8w8", "a8w4"))
LAYERS = [
    Layer("first", "Conv", (0,), ("x",), ("w1",), ((3, 3),), 1000, 10),
    Layer("second", "MatMul", (1,), ("y", "z"), (), (), 300, 7),
]
NAMES = [layer.name for layer in LAYERS]


@pytest.mark.parametrize(
    ("name", "wide", "mixed"),
    [
        ("bops", 1000 * 128 + 300 * 256, 1000 * 32 + 300 * 64),  # two activations meet in the second layer
        ("bytes", 9, 5),  # nine weights of four bits take five bytes
        ("activation-bytes", 2 * 17, 17),
    ],
)
def test_costs_of_a_plan(name, wide, mixed):
    cost = counted_cost(name, LAYERS, (WIDE, NARROW, NARROWEST))
    assert cost.total(PrecisionPlan.uniform(NAMES, WIDE)) == wide
    assert cost.total(PrecisionPlan((("first", NARROWEST), ("second", NARROW)))) == mixed


def test_weights_alone_are_narrow_where_a_layer_has_one():
    narrow = Precision.parse("float32w4")
    plan = PrecisionPlan.uniform(NAMES, narrow)
    assert counted_cost("bops", LAYERS, (narrow,)).total(plan) == 1000 * 32 * 4 + 300 * 32 * 32
    assert counted_cost("activation-bytes", LAYERS, (narrow,)).total(plan) == 4 * 17


@pytest.mark.parametrize(
    ("precision", "size"),
    [
        ("float32w8", 4096 + 64 * (2 + 1)),
        ("float32w4", 2048 + 64 * 2 + 32),
        ("float32w4b16", 2048 + 4 * (64 * 2 + 32)),
        ("a8w8", 4096 + 5),
        ("float32", 4 * 4096),
    ],
)
def test_scales_and_zero_points_of_blocks_count(precision, size):
    found, layer = Precision.parse(precision), Layer("only", "MatMul", (0,), ("x",), ("w",), ((64, 64),), 1, 1, 64)
    cost = counted_cost(
        "bytes", [layer], (found,), stored=storage(QuantizationConfig(block_size=64, per_channel=False))
    )
    assert cost.total(PrecisionPlan.uniform(["only"], found)) == size


@pytest.mark.parametrize(
    ("precision", "biases", "size"),
    [
        ("a8w8", "int32", 288 + 32 * (1 + 4 + 4)),
        ("a8w4", "int32", 144 + 32 * (4 + 4)),  # zero points are 0, and not written
        ("a8w4", "float32", 144 + 32 * 4),
        ("a8w4", "small", 144 + 32 * (4 + 1)),
        ("a8w8", "small", 288 + 32 * (1 + 4 + 2)),
        ("a16w8t", "float32", 288 + 1 + 4),
        ("a8w4t", "int32", 144 + 4 + 4),
        ("float32w8", "int32", 288 + 32 * (1 + 4)),  # beside floats a bias stays float
        ("float32", "int32", 4 * 288),
    ],
)
def test_scales_and_zero_points_of_channels_and_what_is_written_for_their_biases_count(precision, biases, size):
    found, layer = (
        Precision.parse(precision),
        Layer("only", "Conv", (0,), ("x",), ("w",), ((32, 1, 3, 3),), 1, 1, 32, 1),
    )
    cost = counted_cost("bytes", [layer], (found,), stored=storage(QuantizationConfig(biases=biases)))
    assert cost.total(PrecisionPlan.uniform(["only"], found)) == size


def test_scales_of_channels_in_float16_count_as_such():
    found, layer = (
        Precision.parse("a8w4"),
        Layer("only", "Conv", (0,), ("x",), ("w",), ((32, 1, 3, 3),), 1, 1, 32, 1),
    )
    stored = storage(QuantizationConfig(biases="small", channel_scales="float16"))
    cost = counted_cost("bytes", [layer], (found,), stored=stored)
    assert cost.total(PrecisionPlan.uniform(["only"], found)) == 144 + 32 * (2 + 1)


@pytest.mark.parametrize(("precision", "size"), [("a16w8t", 297 + 4 + 66), ("a8w4t", 149 + 4 + 17)])
def test_small_biases_beside_one_scale_count_as_halves_or_4_bits(precision, size):
    found, layer = (
        Precision.parse(precision),
        Layer("only", "Conv", (0,), ("x",), ("w",), ((33, 1, 3, 3),), 1, 1, 33, 1),
    )
    cost = counted_cost("bytes", [layer], (found,), stored=storage(QuantizationConfig(biases="small")))
    assert cost.total(PrecisionPlan.uniform(["only"], found)) == size + (precision == "a16w8t")  # its zero point


WRITTEN = {
    "right": ("(float[N,24] x) => (float[N,5] y) { y = MatMul(x, w) }", (24, 5)),
    "left": ("(float[N,24,3] x) => (float[N,5,3] y) { y = MatMul(w, x) }", (5, 24)),
    "stacked": ("(float[N,2,3,24] x) => (float[N,2,3,5] y) { y = MatMul(x, w) }", (2, 24, 5)),
    "vector": ("(float[N,24] x) => (float[N] y) { y = MatMul(x, w) }", (24,)),
    "turned": ("(float[N,24] x) => (float[N,5] y) { y = Gemm<transB=1>(x, w) }", (5, 24)),
    "both ways": (
        "(float[N,24] x) => (float[N,24] y) { a = Gemm(x, w) b = Relu(a) y = Gemm<transB=1>(b, w) }",
        (24, 8),
    ),
    "convolution": ("(float[N,24,4,4] x) => (float[N,5,4,4] y) { y = Conv(x, w) }", (5, 24, 1, 1)),
    "recurrent": (
        "(float[4,N,24] x) => (float[4,1,N,8] y) { y, h, c = LSTM<hidden_size=8>(x, w, r) }",
        (1, 32, 24),
    ),
}


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference", "openvino", "tensorrt", "qnn"])
@pytest.mark.parametrize("name", WRITTEN)
def test_bytes_of_weights_are_those_that_are_written(tmp_path, name, runtime):
    text, shape = WRITTEN[name]
    ops = ("LSTM",) if name == "recurrent" else DEFAULT_LAYER_OPS
    model = build(text, {"w": shape} | ({"r": (1, 32, 8)} if name == "recurrent" else {}))
    made = bench(model, tmp_path, layer_ops=ops, runtime=runtime, block_size=16, per_channel=True, biases="float32")
    ladder = [Precision.parse(one) for one in ("a8w8", "a16w8t", "a16w4", "float32w8", "float32w4", "float32w4b32")]
    cost = counted_cost("bytes", made.layers, ladder, stored=storage(made.config))
    for layer in made.layers:
        for found in ladder:
            weights = [made.quantizer.weight(layer.name, found, weight) for weight in layer.weights]
            assert cost.prices[layer.name, found] == sum(_stored_bytes(one, found, made.config) for one in weights), (
                found
            )


def _stored_bytes(weight, precision, config):
    """Of codes, scales and zero points; those of signed codes of 4 bits are written where they need not be 0."""
    bits, qparams = weight.qparams.dtype.bits, weight.qparams
    scale_bytes = 2 if config.halves_scales(qparams.scale.size, qparams.block) else 4
    zero_bits = bits if bits > 4 or WeightKind.of(precision).has_zero_points(config) else 0
    scales = qparams.scale.size
    return math.ceil(weight.codes.size * bits / 8) + scales * scale_bytes + math.ceil(scales * zero_bits / 8)


def test_where_nothing_costs_anything_nothing_is_saved():
    nothing = PrecisionPlan(())
    assert counted_cost("bops", [], (WIDE,)).ratio(nothing, nothing) == 1.0
