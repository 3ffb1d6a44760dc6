"""The numbers of a quantized model: scales and zero points of tensors, codes of weights and biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.calibration.histogram import Histogram, histograms_from_table
from quant_core.calibration.power_of_two import round_up
from quant_core.calibration.range_methods import range_method
from quant_core.calibration.ranges import range_groups
from quant_core.calibration.weight_ranges import constant_qparams
from quant_core.config.quantization import QuantizationConfig
from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph, attribute, integer_attribute
from quant_core.model.layers import Layer, find_layers
from quant_core.model.operators import PRODUCT_OPS
from quant_core.model.topology import Topology
from quant_core.numerics import QParams, dequantize, quantize
from quant_core.precision import DataType, Precision
from quant_core.quantization.weights import (
    Weight,
    WeightKind,
    check_blocks,
    has_blocks,
    weight_qparams,
    weight_sums_overflow,
    weights_from_tables,
    weights_with_limited_sums,
)
from quant_core.runtimes.registry import profile_of

__all__ = ["Bias", "Quantizer"]

_BIAS_LIMIT = 2**31 - 1
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


class Quantizer:
    """Chooses the numbers for one prepared model, its calibration and its quantization settings.

    `weights` (tables of schema WEIGHTS) are those chosen with the calibration data in view; others are rounded to the
    nearest code.

    What it returns depends on the arguments alone; results are kept because plans share most of them.
    """

    def __init__(
        self,
        graph: FloatGraph,
        layers: Sequence[Layer],
        calibration: pa.Table,
        config: QuantizationConfig,
        weights: Sequence[pa.Table] = (),
    ) -> None:
        self.graph = graph
        self.config = config
        self.runtime = profile_of(config.runtime)
        """Where the model is to run."""
        searched = {index for layer in layers for index in layer.nodes}
        fixed = [layer for layer in find_layers(graph, PRODUCT_OPS) if searched.isdisjoint(layer.nodes)]
        self.layers = (*layers, *fixed)
        """The layers of the plan, then products that the user took out of the search, which stay wide."""
        if config.block_size is not None:
            check_blocks(graph, "block_size")
        self._histograms = histograms_from_table(calibration)
        self._chosen = weights_from_tables(graph, self.layers, config, weights)
        self.topology = Topology.of(graph, self.layers, self._histograms)
        self._groups = range_groups(self.topology)
        self._activations: dict[tuple[tuple[str, ...], DataType], QParams] = {}
        self._weights: dict[tuple[str, Precision], Weight] = {}
        self._unsigned: dict[tuple[str, Precision], bool] = {}
        self._biases: dict[tuple[int, Precision], Bias] = {}
        self._bias_names: dict[int, str | None] = {}
        self._layer_named = {layer.name: layer for layer in self.layers}

    def range_key(self, tensor: str) -> str:
        """A name shared by all tensors that have the same scale."""
        return self._groups[tensor][0]

    def activation(self, tensor: str, dtype: DataType) -> QParams:
        """Scale and zero point of a tensor in a type: its own range for each type (rule 6 of narrowing)."""
        key = (self._groups[tensor], dtype)
        if key not in self._activations:
            found = [self._histograms[name] for name in key[0] if name in self._histograms]
            if not found:
                raise InputError(f"tensor {tensor!r} has no range: in calibration it was empty, or infinite")
            merged = reduce(Histogram.merge, found)
            self._activations[key] = range_method(self.config)(merged, dtype, self.config.is_symmetric)
        return self._activations[key]

    def constant(self, name: str, dtype: DataType) -> tuple[NDArray[np.generic], QParams]:
        """Codes of a constant operand of a computation, per tensor."""
        values = np.asarray(self.graph.constant(name), np.float32)
        qparams = constant_qparams(values, dtype, self.config.is_symmetric, self.config)
        return quantize(values, qparams), qparams

    def rounded(self, name: str, dtype: DataType) -> NDArray[np.generic]:
        """A constant in a floating-point type; raises InputError if the type cannot hold it."""
        values = np.asarray(self.graph.constant(name), np.float32)
        self._check_fits(name, float(np.abs(values).max(initial=0)), dtype)
        return values.astype(dtype.numpy_type)

    def check_tensor_fits(self, tensor: str, dtype: DataType) -> None:
        """Raise InputError if calibration saw the tensor take a value that a floating-point type cannot hold."""
        seen = self._histograms[tensor]
        self._check_fits(tensor, max(-seen.low, seen.high), dtype)

    def _check_fits(self, name: str, magnitude: float, dtype: DataType) -> None:
        if magnitude > dtype.largest_float:
            raise InputError(
                f"tensor {name!r} takes values up to {magnitude:.4g}, and {dtype.code} ends at "
                f"{dtype.largest_float:.4g}: use bfloat16 or float32"
            )

    def weight(self, layer_name: str, precision: Precision, name: str | None = None) -> Weight:
        """The layer's weight, from its float values (rule 4), its scale grown where a bias needs it (rule 5).

        Of a layer with several weights, the one of that name.
        """
        layer = self._layer_named[layer_name]
        key = (name or layer.weights[0], precision)
        if key not in self._weights:
            self._weights[key] = self._quantized_weight(layer, *key)
        return self._weights[key]

    def _quantized_weight(self, layer: Layer, name: str, precision: Precision) -> Weight:
        kind = WeightKind.of(precision)
        chosen = self._chosen.get((name, precision), self._chosen.get((name, kind)))
        if chosen is not None and not self._grows(layer, precision, chosen.qparams):
            return chosen
        values = np.asarray(self.graph.constant(name), np.float32)
        qparams, axis = weight_qparams(self.graph, layer, values, kind, self.config)
        if self._rounds_biases(layer, precision):
            qparams = replace(qparams, scale=self._grown_for_biases(layer, precision, qparams.scale))
        weight = Weight(quantize(values, qparams, axis), qparams, axis)
        if not self.config.limits_byte_sums or not self._may_saturate(layer, precision, weight):
            return weight
        return weights_with_limited_sums(self.graph, layer, values, weight)

    def choose_weight(self, layer_name: str, precision: Precision, weight: Weight) -> None:
        """Take a layer's only weight at a precision from now on, but not one whose scale does not suffice for biases.

        It is for a quantizer that nobody else has: what others have been told stays as it was.
        """
        key = (self._layer_named[layer_name].weights[0], precision)
        self._chosen[key] = weight
        self._weights.pop(key, None)
        for index in self._layer_named[layer_name].nodes:
            self._biases.pop((index, precision), None)

    def has_a_copy(self, index: int, layer_name: str) -> bool:
        """Return whether a node's weight is stored once more, since it is not the first of its layer to read it."""
        return not self.runtime.shares_weights and index != self._layer_named[layer_name].nodes[0]

    def is_stored_unsigned(self, layer_name: str, precision: Precision) -> bool:
        """Return whether the layer's int8 weight is written as uint8: sums of it would saturate on some processors."""
        key = (layer_name, precision)
        if key not in self._unsigned:
            weight = self.weight(layer_name, precision)
            self._unsigned[key] = self._may_saturate(self._layer_named[layer_name], precision, weight)
        return self._unsigned[key]

    def _may_saturate(self, layer: Layer, precision: Precision, weight: Weight) -> bool:
        """Return whether sums of a weight's products must be kept from saturating, and are not."""
        in_bytes = precision.activations.bits == 8 and precision.weights is DataType.INT8
        return self.runtime.keeps_byte_sums_in_range and in_bytes and weight_sums_overflow(self.graph, layer, weight)

    def has_blocks(self, layer: Layer, precision: Precision) -> bool:
        """Return whether a weight has a scale for each block of inputs."""
        return has_blocks(self.graph, layer, WeightKind.of(precision), self.config)

    def _leaves_biases(self, layer: Layer, precision: Precision) -> bool:
        """Return whether the layer's biases stay float: no one scale of input and weight is theirs."""
        return self.config.leaves_biases(precision) or not self._has_product_scale(layer, precision)

    def _rounds_biases(self, layer: Layer, precision: Precision) -> bool:
        """Return whether the layer's biases become int32 at the scale of input times weight, if only in the runtime."""
        in_codes = not self.config.leaves_biases(precision) or self.runtime.rounds_float_weights
        return in_codes and self._has_product_scale(layer, precision)

    def _has_product_scale(self, layer: Layer, precision: Precision) -> bool:
        """Return whether each channel has one scale of input times weight."""
        return not precision.activations.is_float and not self.has_blocks(layer, precision)

    def _grows(self, layer: Layer, precision: Precision, qparams: QParams) -> bool:
        """Return whether a bias needs a larger scale than codes were chosen for."""
        if not self._rounds_biases(layer, precision):
            return False
        return bool((self._grown_for_biases(layer, precision, qparams.scale) > qparams.scale).any())

    def _grown_for_biases(self, layer: Layer, precision: Precision, scale: NDArray[np.float32]) -> NDArray[np.float32]:
        needed = self._scale_for_biases(layer, precision, scale.shape)
        return np.maximum(scale, round_up(needed) if self.config.has_power_of_two_scales else needed)

    def _scale_for_biases(self, layer: Layer, precision: Precision, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The smallest weight scale at which no bias of the layer overflows int32."""
        needed = np.zeros(shape, np.float32)
        for index in layer.nodes:
            bias = self.bias_name(index)
            if bias is None or self.config.own_bias_type(precision) is not None:
                continue
            magnitude = np.abs(np.asarray(self.graph.constant(bias), np.float64)).ravel()
            if self.config.has_half_biases:
                magnitude = magnitude * _LARGEST_IN_HALF
            least = magnitude / (_BIAS_LIMIT * float(self._input_scale(index, precision)))
            least = _per_weight_channel(least, shape)
            # One step up in float32, so that rounding the quotient cannot undo the growth.
            grown = np.nextafter(least.astype(np.float32), np.float32(np.inf)) * np.float32(1 + 2**-20)
            needed = np.maximum(needed, np.where(least > 0, grown, 0))
        return needed.astype(np.float32)

    def bias_name(self, index: int) -> str | None:
        """The constant bias of a node that is quantized with it: one value per output channel, unscaled."""
        if index not in self._bias_names:
            self._bias_names[index] = self._find_bias(index)
        return self._bias_names[index]

    def _find_bias(self, index: int) -> str | None:
        node = self.graph.nodes[index]
        if len(node.input) < 3 or not all(self.graph.is_float_constant(name) for name in node.input[1:3]):
            return None
        if any(attribute(node, scaling, 1.0) != 1.0 for scaling in ("alpha", "beta")):
            return None
        shape = self.graph.shape(node.input[2]) or ()
        return node.input[2] if len(shape) == 1 and shape[0] == self._output_channels(index) else None

    def _output_channels(self, index: int) -> int | None:
        node = self.graph.nodes[index]
        weight = self.graph.shape(node.input[1])
        if weight is None:
            return None
        if node.op_type == "ConvTranspose":
            return (weight[1] or 0) * integer_attribute(node, "group", 1)
        if node.op_type == "Gemm":
            return weight[0 if attribute(node, "transB", 0) else 1]
        return weight[0]

    def quantizes_bias(self, index: int, layer_name: str, precision: Precision) -> bool:
        """Return whether a node has a bias that is held as codes."""
        name = self.bias_name(index)
        if name is None or self._leaves_biases(self._layer_named[layer_name], precision):
            return False
        return self.config.biases != "small" or np.size(self.graph.constant(name)) >= _FEWEST_IN_BYTES

    def bias(self, index: int, layer_name: str, precision: Precision) -> Bias:
        """A node's bias for the precision its layer computes in (rule 5: recomputed for each)."""
        key = (index, precision)
        if key not in self._biases:
            self._biases[key] = self._quantized_bias(index, layer_name, precision)
        return self._biases[key]

    def corrected_bias(self, index: int, layer_name: str, precision: Precision) -> NDArray[np.float32] | None:
        """A node's float bias with what makes up for the rounded weight; None where it stays as it is."""
        name = self.bias_name(index)
        if name is None or precision.is_float:
            return None
        shift = self.weight(layer_name, precision).bias_shift
        if not shift.any():
            return None
        return np.asarray(np.asarray(self.graph.constant(name), np.float64) + shift, np.float32)

    def bias_values(self, index: int, layer_name: str, precision: Precision) -> NDArray[np.float32]:
        """What a node adds as its bias: the values that codes stand for, or floats as they are written."""
        if self.quantizes_bias(index, layer_name, precision):
            bias = self.bias(index, layer_name, precision)
            return dequantize(bias.codes, bias.qparams, 0 if bias.qparams.scale.ndim else None)
        corrected = self.corrected_bias(index, layer_name, precision)
        half = self.half_bias(index, corrected)
        if half is not None:
            return half.astype(np.float32)
        return (
            np.asarray(self.graph.constant(str(self.bias_name(index))), np.float32) if corrected is None else corrected
        )

    def half_bias(self, index: int, corrected: NDArray[np.float32] | None) -> NDArray[np.float16] | None:
        """A node's float bias, `corrected` or as it is, in float16; None where it is not held so."""
        name = self.bias_name(index)
        if name is None or not self.config.has_half_biases:
            return None
        values = np.asarray(self.graph.constant(name) if corrected is None else corrected, np.float32)
        fits = values.size >= _FEWEST_IN_HALF and bool((np.abs(values) <= DataType.FLOAT16.largest_float).all())
        return values.astype(np.float16) if fits else None

    def _quantized_bias(self, index: int, layer_name: str, precision: Precision) -> Bias:
        name = self.bias_name(index)
        assert name is not None  # callers ask only for nodes that have one
        values = np.asarray(self.graph.constant(name), np.float32)
        shifted = values.astype(np.float64) + self.weight(layer_name, precision).bias_shift
        kind = self.config.own_bias_type(precision)
        if kind is not None:
            own = shifted.astype(np.float32)
            qparams = constant_qparams(own, kind, True, self.config)
            return Bias(quantize(own, qparams), qparams)
        weight_scale = self.weight(layer_name, precision).qparams.scale
        if weight_scale.ndim and len(weight_scale) != len(values):  # a grouped ConvTranspose repeats its channels
            weight_scale = np.tile(weight_scale, len(values) // len(weight_scale))
        scale = np.asarray(self._input_scale(index, precision) * weight_scale, np.float32)
        codes = np.clip(np.rint(shifted / scale), -_BIAS_LIMIT, _BIAS_LIMIT)
        return Bias(codes.astype(np.int32), QParams(DataType.INT32, scale, np.zeros(scale.shape, np.int64)))

    def _input_scale(self, index: int, precision: Precision) -> np.float32:
        qparams = self.activation(self.graph.nodes[index].input[0], precision.activations)
        return np.float32(qparams.scale)


def _per_weight_channel(values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The largest value for each scale of the weight: of all outputs, or of those that share a channel."""
    return values.reshape(-1, *shape).max(axis=0) if shape else np.asarray(values.max())
