"""Rules that profiles are made of: each finds the nodes of a written file that break it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from quant_core.model.graph import attribute, integer_attribute
from quant_core.precision import DataType
from quant_core.runtimes.byte_sums import overflows
from quant_core.runtimes.profile import Rule
from quant_core.runtimes.written_model import WrittenLayer, WrittenModel

__all__ = [
    "BIAS_AT_PRODUCT_SCALE",
    "BLOCKS_BESIDE_4_BITS",
    "BYTE_SUMS_IN_RANGE",
    "CHANNELS_OF_MATRICES",
    "INT8_BESIDE_INT8",
    "NO_ROUNDED_PRODUCTS",
    "NO_ROUNDED_WEIGHTS",
    "ONE_ZERO_POINT_A_WEIGHT",
    "PAIRS_HAVE_KERNELS",
    "ZERO_POINTS_OF_CHANNELS_ARE_EQUAL",
]

_NEWEST_OPSET = 27
"""The last opset whose Q/DQ ONNX Runtime 1.32 has kernels for."""


def _without_kernels(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for node, kind in model.pairs():
        if node.domain not in ("", "ai.onnx"):
            continue
        if model.opset > _NEWEST_OPSET:
            yield node.name, f"{node.op_type} of opset {model.opset}: there are kernels up to {_NEWEST_OPSET}"
        elif kind is not None and not kind.is_float and model.opset < kind.first_opset:
            yield node.name, f"{kind} at opset {model.opset}: the standard has it from {kind.first_opset} on"


PAIRS_HAVE_KERNELS = Rule(
    "pairs-have-kernels",
    "refused",
    f"Pairs of the standard's domain are of an opset up to {_NEWEST_OPSET}, and from "
    f"{DataType.INT4.first_opset} on for types of 16 and 4 bits, {DataType.INT2.first_opset} for those of 2 bits.",
    _without_kernels,
)


def _rounded_products(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        if _is_fused_to_nbits(layer):
            assert layer.weight is not None
            given = layer.reads.kind if layer.reads else "float32"
            yield (
                layer.node.name,
                f"{given} activations beside {layer.weight.kind} weights: fused to MatMulNBits, which rounds them to "
                "int8 (accuracy level 4)",
            )
    for node in model.model.graph.node:
        if node.op_type == "MatMulNBits" and attribute(node, "accuracy_level", 0) == 4:
            yield node.name, "MatMulNBits at accuracy level 4: rounds what it reads to int8"


def _is_fused_to_nbits(layer: WrittenLayer) -> bool:
    """Return whether ONNX Runtime makes a MatMulNBits of a layer (by its DQMatMulToMatMulNBits, measured at 1.32)."""
    weight = layer.weight
    if weight is None or weight.codes is None or weight.kind.bits > 8 or layer.has_8_bit_input:
        return False
    if layer.node.op_type == "Gemm":
        return not attribute(layer.node, "transB", 0)
    return layer.node.op_type == "MatMul" and weight.codes.ndim == 2


NO_ROUNDED_PRODUCTS = Rule(
    "no-rounded-products",
    "differs",
    "Activations in float or 16 bits beside constant weights of up to 8 bits stand in a Gemm with transB=1, or in a "
    "MatMul whose weight has a leading axis of 1; otherwise both become a MatMulNBits that rounds activations to int8.",
    _rounded_products,
)


def _rounded_weights(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        node, third = layer.node, (*layer.node.input, "", "")[2]
        if node.op_type == "MatMul" or layer.reads is None or layer.writes is None:
            continue
        if model.is_float_constant(node.input[1]) and (not third or model.is_float_constant(third)):
            yield node.name, "its float weight is rounded to int8, with one scale for all channels"


NO_ROUNDED_WEIGHTS = Rule(
    "no-rounded-weights",
    "differs",
    "A Conv, ConvTranspose or Gemm with a float weight between two pairs has its bias in 32-bit codes; otherwise the "
    "weight is rounded to int8, with one scale for all channels.",
    _rounded_weights,
)


_SATURATES = "sums of its int8 weights may saturate in 16 bits on x86 without VNNI"


def _overflowing(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        weight = layer.weight
        if weight is None or weight.codes is None or weight.kind is not DataType.INT8 or not layer.has_8_bit_input:
            continue
        if layer.node.op_type != "ConvTranspose" and overflows(
            layer.node.op_type, weight.codes, layer.inputs_axis, integer_attribute(layer.node, "group", 1)
        ):
            yield layer.node.name, _SATURATES
    for node, codes, inputs_axis in model.integer_products():
        op_type = "Conv" if "Conv" in node.op_type else "MatMul"
        group = integer_attribute(node, "group", 1)
        if codes.dtype == np.int8 and overflows(op_type, codes, inputs_axis, group):
            yield node.name, _SATURATES


BYTE_SUMS_IN_RANGE = Rule(
    "byte-sums-in-range",
    "differs",
    "Weights beside 8-bit activations are uint8, or int8 of which no two neighbours add up to more than 128: sums of "
    "two products saturate in 16 bits on x86 processors without VNNI.",
    _overflowing,
)


def _signed_beside_unsigned(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        read, weight = layer.reads, layer.weight
        if read is None or weight is None:
            continue
        if read.kind is DataType.INT8 and weight.kind is DataType.UINT8:
            yield layer.node.name, "int8 activations beside uint8 weights: on ARM it is computed in float"


INT8_BESIDE_INT8 = Rule(
    "int8-beside-int8",
    "slow",
    "Weights beside int8 activations are int8: where int8 is left as it is (ARM), others have no integer kernel.",
    _signed_beside_unsigned,
)


def _other_bias_scales(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        read, weight, bias = layer.reads, layer.weight, layer.bias
        if bias is None or bias.kind is not DataType.INT32 or read is None or weight is None:
            continue
        if read.scale is None or weight.scale is None or bias.scale is None:
            continue
        product = np.float32(read.scale) * weight.scale.astype(np.float32)
        sizes = {product.size, bias.scale.size}
        if bias.zero_point.any() or (len(sizes - {1}) > 1) or not np.all(np.ravel(product) == np.ravel(bias.scale)):
            yield layer.node.name, "its bias is not at the scale of input times weight, which kernels take for granted"


BIAS_AT_PRODUCT_SCALE = Rule(
    "bias-at-product-scale",
    "differs",
    "An int32 bias has zero point 0 and exactly the float32 product of the scales of input and weight for its scale.",
    _other_bias_scales,
)


def _shared_zero_points(model: WrittenModel) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for codes, weight in model.constant_weights():
        if weight.zero_name and first.setdefault(weight.zero_name, codes) != codes:
            yield weight.node, f"its zero point is also that of {first[weight.zero_name]!r}"


ONE_ZERO_POINT_A_WEIGHT = Rule(
    "one-zero-point-a-weight",
    "refused",
    "Every weight has a zero point of its own: with session.x64quantprecision a shared one is changed twice.",
    _shared_zero_points,
)


def _blocks_of_8_bits(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        weight = layer.weight
        if weight is not None and weight.block and weight.kind.bits == 8 and layer.has_8_bit_input:
            yield (
                layer.node.name,
                f"{weight.kind} weights in blocks beside 8-bit activations: its kernel fails",
            )


BLOCKS_BESIDE_4_BITS = Rule(
    "blocks-of-4-bits-only",
    "refused",
    "Weights of 8 bits beside 8-bit activations have no blocks: the first run fails.",
    _blocks_of_8_bits,
)


def _channels_of_stacks(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        weight = layer.weight
        if weight is None or weight.codes is None or weight.scale is None or layer.node.op_type != "MatMul":
            continue
        if layer.has_8_bit_input and weight.kind.bits == 8 and weight.codes.ndim > 2 and weight.scale.ndim:
            yield layer.node.name, "a scale a channel for a stack of matrices: MatMulIntegerToFloat fails"


CHANNELS_OF_MATRICES = Rule(
    "channels-of-matrices-only",
    "refused",
    "8-bit weights of a MatMul beside 8-bit activations have a scale a channel only if they have two dimensions.",
    _channels_of_stacks,
)


def _unequal_zero_points(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in model.products:
        weight = layer.weight
        if weight is None or weight.block or not layer.has_8_bit_input or weight.kind.bits != 8:
            continue
        if len(np.unique(weight.zero_point)) > 1:
            yield (
                layer.node.name,
                "its channels have several zero points: it is computed in float from unpacked weights",
            )


ZERO_POINTS_OF_CHANNELS_ARE_EQUAL = Rule(
    "equal-zero-points",
    "slow",
    "All channels of a weight have one zero point: others have no integer kernel.",
    _unequal_zero_points,
)
