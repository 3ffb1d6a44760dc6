"""What plans cost."""

import pytest

from quant_core.config.quantization import QuantizationConfig
from quant_core.model.layers import Layer
from quant_core.precision import Precision, PrecisionPlan
from quant_core.search.cost import counted_cost

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
    cost = counted_cost("bytes", [layer], (found,), stored=QuantizationConfig(block_size=64, per_channel=False))
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
    cost = counted_cost("bytes", [layer], (found,), stored=QuantizationConfig(biases=biases))
    assert cost.total(PrecisionPlan.uniform(["only"], found)) == size


def test_scales_of_channels_in_float16_count_as_such():
    found, layer = (
        Precision.parse("a8w4"),
        Layer("only", "Conv", (0,), ("x",), ("w",), ((32, 1, 3, 3),), 1, 1, 32, 1),
    )
    stored = QuantizationConfig(biases="small", channel_scales="float16")
    cost = counted_cost("bytes", [layer], (found,), stored=stored)
    assert cost.total(PrecisionPlan.uniform(["only"], found)) == 144 + 32 * (2 + 1)


def test_where_nothing_costs_anything_nothing_is_saved():
    nothing = PrecisionPlan(())
    assert counted_cost("bops", [], (WIDE,)).ratio(nothing, nothing) == 1.0
