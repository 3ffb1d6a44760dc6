"""The bias of a node: where there is one to quantize, what it is held as, and what it asks of the weight's scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_core.calibration.weight_ranges import constant_qparams
from quant_core.config.quantization import QuantizationConfig
from quant_core.model.graph import FloatGraph, attribute, integer_attribute
from quant_core.numerics import QParams, dequantize, quantize
from quant_core.precision import DataType
from quant_core.quantization.weights import Weight

__all__ = [
    "Bias",
    "bias_at_own_scale",
    "bias_at_products",
    "bias_in_halves",
    "bias_name",
    "corrected_bias",
    "is_worth_codes",
    "least_scale",
]

_LIMIT = 2**31 - 1
_FEWEST_IN_HALF = 32
"""Values from which on the Cast takes fewer bytes than float16 saves."""
_FEWEST_IN_BYTES = 24
"""Values from which on a DequantizeLinear and its scale take fewer bytes than 8 bits save."""
_LARGEST_IN_HALF = 1 + 2**-11  # what a value may be multiplied by when it is rounded to float16


@dataclass(frozen=True)
class Bias:
    """A bias in int32 at scale input x weight, or in fewer bits at a scale of its own."""

    codes: NDArray[np.generic]
    """One per output channel."""
    qparams: QParams
    """Of all codes, or one per output channel."""

    @property
    def axis(self) -> int | None:
        """The axis of channels; None where all codes have one scale."""
        return 0 if self.qparams.scale.ndim else None

    @property
    def values(self) -> NDArray[np.float32]:
        """What the codes stand for."""
        return dequantize(self.codes, self.qparams, self.axis)


def bias_name(graph: FloatGraph, index: int) -> str | None:
    """The constant bias of a node that is quantized with it: one value per output channel, unscaled."""
    node = graph.nodes[index]
    if len(node.input) < 3 or not all(graph.is_float_constant(name) for name in node.input[1:3]):
        return None
    if any(attribute(node, scaling, 1.0) != 1.0 for scaling in ("alpha", "beta")):
        return None
    shape = graph.shape(node.input[2]) or ()
    return node.input[2] if len(shape) == 1 and shape[0] == _output_channels(graph, index) else None


def _output_channels(graph: FloatGraph, index: int) -> int | None:
    node = graph.nodes[index]
    weight = graph.shape(node.input[1])
    if weight is None:
        return None
    if node.op_type == "ConvTranspose":
        return (weight[1] or 0) * integer_attribute(node, "group", 1)
    if node.op_type == "Gemm":
        return weight[0 if attribute(node, "transB", 0) else 1]
    return weight[0]


def is_worth_codes(values: NDArray[np.generic], config: QuantizationConfig) -> bool:
    """Return whether a bias that may be codes is to be: where bytes are saved, a pair must pay for itself."""
    return config.biases != "small" or values.size >= _FEWEST_IN_BYTES


def bias_at_products(values: NDArray[np.generic], weight: Weight, input_scale: np.float32) -> Bias:
    """A bias in int32 at the scale of input times weight."""
    weight_scale = weight.qparams.scale
    if weight_scale.ndim and len(weight_scale) != len(values):  # a grouped ConvTranspose repeats its channels
        weight_scale = np.tile(weight_scale, len(values) // len(weight_scale))
    scale = np.asarray(input_scale * weight_scale, np.float32)
    codes = np.clip(np.rint(_shifted(values, weight) / scale), -_LIMIT, _LIMIT)
    return Bias(codes.astype(np.int32), QParams(DataType.INT32, scale, np.zeros(scale.shape, np.int64)))


def bias_at_own_scale(values: NDArray[np.generic], weight: Weight, kind: DataType, config: QuantizationConfig) -> Bias:
    """A bias in another type, at one scale of its own.

    Of small ones it is the power of two with the least squared error: many layers share it.
    """
    shifted = _shifted(values, weight).astype(np.float32)
    if config.biases == "small":
        config = config.model_copy(update={"calibrate": "pow2-minmse", "power_of_two_rounding": "up"})
    qparams = constant_qparams(shifted, kind, True, config)
    return Bias(quantize(shifted, qparams), qparams)


def _shifted(values: NDArray[np.generic], weight: Weight) -> NDArray[np.float64]:
    """The bias with what makes up for the weight's rounding."""
    return np.asarray(values, np.float32).astype(np.float64) + weight.bias_shift


def corrected_bias(values: NDArray[np.generic], weight: Weight) -> NDArray[np.float32] | None:
    """A float bias with what makes up for the weight's rounding; None where it stays as it is."""
    shift = weight.bias_shift
    return np.asarray(np.asarray(values, np.float64) + shift, np.float32) if shift.any() else None


def bias_in_halves(values: NDArray[np.generic], config: QuantizationConfig) -> NDArray[np.float16] | None:
    """A float bias in float16; None where it is not held so."""
    if not config.has_half_biases:
        return None
    values = np.asarray(values, np.float32)
    fits = values.size >= _FEWEST_IN_HALF and bool((np.abs(values) <= DataType.FLOAT16.largest_float).all())
    return values.astype(np.float16) if fits else None


def least_scale(
    values: NDArray[np.generic], input_scale: np.float32, shape: tuple[int, ...], config: QuantizationConfig
) -> NDArray[np.float32]:
    """The smallest scale of a weight, of that shape, at which a bias beside it does not overflow int32."""
    magnitude = np.abs(np.asarray(values, np.float64)).ravel()
    if config.has_half_biases:
        magnitude = magnitude * _LARGEST_IN_HALF
    least = _per_weight_channel(magnitude / (_LIMIT * float(input_scale)), shape)
    # One step up in float32, so that rounding the quotient cannot undo the growth.
    grown = np.nextafter(least.astype(np.float32), np.float32(np.inf)) * np.float32(1 + 2**-20)
    return np.where(least > 0, grown, np.float32(0))


def _per_weight_channel(values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The largest value for each scale of the weight: of all outputs, or of those that share a channel."""
    return values.reshape(-1, *shape).max(axis=0) if shape else np.asarray(values.max())
