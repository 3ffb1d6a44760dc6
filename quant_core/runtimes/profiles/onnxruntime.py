"""ONNX Runtime's CPU provider with default options, measured at 1.32 on x86."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from quant_core.model.sessions import Numerics, open_file
from quant_core.precision import DataType
from quant_core.runtimes.kernels import layer_kernels
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.products import (
    BIAS_AT_PRODUCT_SCALE,
    BLOCKS_BESIDE_4_BITS,
    BYTE_SUMS_IN_RANGE,
    CHANNELS_OF_MATRICES,
    NO_ROUNDED_PRODUCTS,
    NO_ROUNDED_WEIGHTS,
    ONE_ZERO_POINT_A_WEIGHT,
    PAIRS_HAVE_KERNELS,
    ZERO_POINTS_OF_CHANNELS_ARE_EQUAL,
)
from quant_core.runtimes.slower_layers import slower_layer

__all__ = ["ONNXRUNTIME"]

ONNXRUNTIME = replace(
    REFERENCE,
    name="onnxruntime",
    title="ONNX Runtime on a CPU, with a session's default options",
    assumes="",
    opens=partial(open_file, numerics=Numerics.DEPLOYED),
    kernels=layer_kernels,
    rules=(
        PAIRS_HAVE_KERNELS,
        NO_ROUNDED_PRODUCTS,
        NO_ROUNDED_WEIGHTS,
        BYTE_SUMS_IN_RANGE,
        BIAS_AT_PRODUCT_SCALE,
        ONE_ZERO_POINT_A_WEIGHT,
        BLOCKS_BESIDE_4_BITS,
        CHANNELS_OF_MATRICES,
        ZERO_POINTS_OF_CHANNELS_ARE_EQUAL,
    ),
    numbers="A Conv, Gemm or MatMul between 8-bit pairs becomes one integer kernel, which rounds once instead of "
    "twice: a code in some thousands differs. One with a 16-bit pair on either side is computed in float between its "
    "pairs, as they say, and is slower than in the float model. So is a Conv of few channels in 8 bits: less than 100 "
    "input times output channels of a group, and either 3 input channels at most or several groups, but for depthwise "
    "ones. Beside a wide float no plan narrows it, unless another cost than bit operations or a budget is given. "
    "Weights of 2 bits stand beside 16-bit or float activations: between 8-bit pairs it cannot open a file with them.",
    # It makes a QLinearConv or a QLinearMatMul of them, which has no kernel, and refuses the model.
    weights_beside_bytes=REFERENCE.weights - {DataType.INT2, DataType.UINT2},
    recurrent="They are computed in float, and their weights dequantized on every run, so beside a wide float no plan "
    "narrows them, unless another cost than bit operations or a budget is given. With `--format dynamiclstm` LSTM "
    "layers of 8 bits are DynamicQuantizeLSTM, which adds up codes and is faster.",
    keeps_byte_sums_in_range=True,
    keeps_matmuls_apart=True,
    rounds_float_weights=True,
    slower_in_8_bits=slower_layer,
)
