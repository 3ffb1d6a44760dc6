import numpy as np
import onnxruntime as ort
import pytest

from quant_core.numerics import dequantize
from quant_core.precision import PrecisionPlan
from quant_core.quantization.plan_graph.layer_forms import unsigned
from tests.models import MODELS
from tests.quant_core.workbench import distance

DEFAULT = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
STEPS_OF_16_BITS = 1e-3
"""In standard deviations of an output: sums that round differently in their last bit move a code now and then."""
SETTINGS = {
    "a16w8": {},
    "au16w8-channels": {"wide": "au16w8", "per_channel": True},
    "a16w4": {"wide": "a16w4"},
    "a16w4-blocks": {"wide": "a16w4", "block_size": 16},
    "float32w8": {"wide": "float32w8"},
    "float32w4-blocks": {"wide": "float32w4", "block_size": 16},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("model", ["transformer", "gemm-variants", "matmul-variants", "two-activations"])
def test_a_default_session_keeps_16_bit_activations(workbench, model, setting):
    made = workbench(model, **SETTINGS[setting])
    assert distance(made.ship(made.wide, DEFAULT), made.ship(made.wide)) < STEPS_OF_16_BITS


@pytest.mark.parametrize("others", ["float32", "au8w8", "a16w8"])
@pytest.mark.parametrize("narrow", ["au8w8", "a8w8", "a16w8"])
@pytest.mark.parametrize("layer", ["q", "k", "v"])
def test_a_default_session_runs_a_layer_alone_among_others(workbench, layer, narrow, others):
    """Products that read one tensor in different types: ONNX Runtime fuses each by what stands in front of it alone."""
    made = workbench("transformer", wide="float32")
    plan = PrecisionPlan.from_dict(dict.fromkeys(made.names, others) | {layer: narrow})
    assert distance(made.ship(plan, DEFAULT), made.ship(plan)) < 10 * STEPS_OF_16_BITS


def test_without_the_forms_a_default_session_rounds_them_to_8_bits(workbench):
    made = workbench("transformer", runtime="reference")
    assert distance(made.ship(made.wide, DEFAULT), made.ship(made.wide)) > 10 * STEPS_OF_16_BITS


@pytest.mark.parametrize("model", ["gemm-variants", "matmul-variants", "transformer", "shared-weight"])
def test_forms_change_no_number(workbench, model):
    # Of stacked weights, which ONNX Runtime reads per tensor only, the reference has a scale for each channel.
    settings = {"per_channel": model != "matmul-variants"}
    made, plain = workbench(model, **settings), workbench(model, runtime="reference", **settings)
    assert distance(made.ship(made.wide), plain.ship(plain.wide)) < STEPS_OF_16_BITS


@pytest.mark.parametrize("per_channel", [False, True])
def test_an_unsigned_weight_stands_for_the_same_values(workbench, per_channel):
    made = workbench("chain", wide="au8w8", per_channel=per_channel)
    for name in made.names:
        weight = made.quantizer.weight(name, made.config.wide)
        shifted = unsigned(weight)
        assert shifted.codes.dtype == np.uint8
        before = dequantize(weight.codes, weight.qparams, weight.axis)
        assert (dequantize(shifted.codes, shifted.qparams, shifted.axis) == before).all()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_ships_what_it_simulates_in_each_form_of_its_sums(workbench, name):
    for sums in ("exact", "fast"):
        made = workbench(name, wide="au8w8", byte_sums=sums)
        assert distance(made.simulate(made.wide), made.ship(made.wide)) == 0.0
