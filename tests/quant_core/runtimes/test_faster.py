import pytest

from quant_core.precision import Precision
from quant_core.runtimes.faster import faster_options, is_slower
from quant_core.runtimes.kernels import LayerKernel

INTEGER = LayerKernel("a", "Conv", "QLinearConv", True, "")
WIDE = LayerKernel("b", "Conv", "Conv", False, "the Q/DQ pair after it is int16")
FLOAT = LayerKernel("c", "Conv", "Conv", False, "its input is not quantized")
FOUR_BITS = LayerKernel("d", "Conv", "Conv", False, "no integer kernel for uint8 activations and int4 weights")


@pytest.mark.parametrize(
    ("wide", "kernels", "saves_latency", "told"),
    [
        pytest.param("a16w8", [INTEGER, WIDE], False, "--wide float32 (1 of 2 layers", id="16 bits between pairs"),
        pytest.param(
            "float32", [INTEGER, FOUR_BITS], False, "--narrow au8w8 (1 of 2 layers", id="no kernel for 4 bits"
        ),
        pytest.param("float32", [INTEGER, FLOAT], False, "--cost latency (", id="integer and float layers"),
        pytest.param("au8w8", [INTEGER], False, "--cost latency (", id="integer kernels alone"),
        pytest.param("float32", [INTEGER, FLOAT], True, "the float model (no option", id="saved latency already"),
    ],
)
def test_what_would_be_faster_follows_from_what_layers_run_as(wide, kernels, saves_latency, told):
    assert faster_options(Precision.parse(wide), kernels, saves_latency).startswith(told)


def test_times_within_their_noise_are_alike():
    assert is_slower(1.06, 1.0) and not is_slower(1.04, 1.0) and not is_slower(0.5, 1.0)
