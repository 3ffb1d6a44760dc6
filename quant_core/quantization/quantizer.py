"""The numbers of a quantized model: scales and zero points of tensors, codes of weights and biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer, find_layers
from quant_core.model.operators import PRODUCT_OPS
from quant_core.model.topology import Topology
from quant_core.numerics import QParams, quantize
from quant_core.precision import DataType, Precision
from quant_core.quantization.biases import (
    Bias,
    bias_at_own_scale,
    bias_at_products,
    bias_in_halves,
    bias_name,
    corrected_bias,
    is_worth_codes,
    least_scale,
)
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

__all__ = ["Quantizer"]


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
        if self.config.own_bias_type(precision) is not None:
            return needed
        for index in [index for index in layer.nodes if self.bias_name(index) is not None]:
            input_scale = self._input_scale(index, precision)
            needed = np.maximum(needed, least_scale(self._float_bias(index), input_scale, shape, self.config))
        return needed

    def bias_name(self, index: int) -> str | None:
        """The constant bias of a node that is quantized with it: one value per output channel, unscaled."""
        if index not in self._bias_names:
            self._bias_names[index] = bias_name(self.graph, index)
        return self._bias_names[index]

    def _float_bias(self, index: int) -> NDArray[np.generic]:
        return self.graph.constant(str(self.bias_name(index)))

    def quantizes_bias(self, index: int, layer_name: str, precision: Precision) -> bool:
        """Return whether a node has a bias that is held as codes."""
        if self.bias_name(index) is None or self._leaves_biases(self._layer_named[layer_name], precision):
            return False
        return is_worth_codes(self._float_bias(index), self.config)

    def bias(self, index: int, layer_name: str, precision: Precision) -> Bias:
        """A node's bias for the precision its layer computes in (rule 5: recomputed for each)."""
        key = (index, precision)
        if key not in self._biases:
            self._biases[key] = self._quantized_bias(index, self.weight(layer_name, precision), precision)
        return self._biases[key]

    def _quantized_bias(self, index: int, weight: Weight, precision: Precision) -> Bias:
        values, kind = self._float_bias(index), self.config.own_bias_type(precision)
        if kind is not None:
            return bias_at_own_scale(values, weight, kind, self.config)
        return bias_at_products(values, weight, self._input_scale(index, precision))

    def corrected_bias(self, index: int, layer_name: str, precision: Precision) -> NDArray[np.float32] | None:
        """A node's float bias with what makes up for the rounded weight; None where it stays as it is."""
        if self.bias_name(index) is None or precision.is_float:
            return None
        return corrected_bias(self._float_bias(index), self.weight(layer_name, precision))

    def half_bias(self, index: int, corrected: NDArray[np.float32] | None) -> NDArray[np.float16] | None:
        """A node's float bias, `corrected` or as it is, in float16; None where it is not held so."""
        if self.bias_name(index) is None:
            return None
        return bias_in_halves(self._float_bias(index) if corrected is None else corrected, self.config)

    def bias_values(self, index: int, layer_name: str, precision: Precision) -> NDArray[np.float32]:
        """What a node adds as its bias: the values that codes stand for, or floats as they are written."""
        if self.quantizes_bias(index, layer_name, precision):
            return self.bias(index, layer_name, precision).values
        corrected = self.corrected_bias(index, layer_name, precision)
        half = self.half_bias(index, corrected)
        written = next((values for values in (half, corrected) if values is not None), self._float_bias(index))
        return np.asarray(written, np.float32)

    def _input_scale(self, index: int, precision: Precision) -> np.float32:
        qparams = self.activation(self.graph.nodes[index].input[0], precision.activations)
        return np.float32(qparams.scale)
