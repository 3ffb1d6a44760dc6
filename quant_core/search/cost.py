"""What a plan costs: bit operations, bytes, or whatever else has a price for each layer at each precision.

A cost model is a price list of layers and, for a cost that is measured, of boundaries: what it takes besides where two
neighbours differ in precision. The search asks it for prices and totals only, so that a cost that is measured is used
just as one that is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from quant_core.config.quantization import QuantizationConfig
from quant_core.model.layers import Layer
from quant_core.model.operators import RECURRENT_OPS, TABLE_OP
from quant_core.model.other_products import OtherProduct
from quant_core.precision import PER_TENSOR, DataType, Precision, PrecisionPlan

__all__ = ["COUNTED", "Boundary", "CostModel", "Storage", "counted_cost"]


@dataclass(frozen=True)
class Boundary:
    """What it costs that two neighbouring layers have different precisions."""

    first: str
    """Name of a layer."""
    second: str
    """Name of a later one, which reads what the first writes or reads."""
    prices: Mapping[tuple[Precision, Precision], float]
    """By the precisions of the first and the second; nothing where they have the same, or that is not named."""


@dataclass(frozen=True)
class CostModel:
    """Prices of layers and of the boundaries between them, for one sample."""

    name: str
    """As the user calls it: `bops`, `bytes`, ..."""
    unit: str
    """What prices are in."""
    prices: Mapping[tuple[str, Precision], float]
    """Price of a layer at a precision, for every layer at every precision of the search."""
    fixed: float = 0.0
    """What every plan costs besides its layers."""
    boundaries: tuple[Boundary, ...] = ()
    """Pairs of neighbours; empty for a cost that is a sum over layers."""

    def total(self, plan: PrecisionPlan) -> float:
        """The cost of a plan; summed in graph order."""
        chosen = dict(plan.layers)
        between = sum(one.prices.get((chosen[one.first], chosen[one.second]), 0.0) for one in self.boundaries)
        return self.fixed + sum(self.prices[choice] for choice in plan.layers) + between

    def ratio(self, plan: PrecisionPlan, wide: PrecisionPlan) -> float:
        """A plan's cost as a share of the wide plan's; 1 where that costs nothing."""
        before = self.total(wide)
        return self.total(plan) / before if before else 1.0


class WeightRules(Protocol):
    """What a runtime has to say on the scales of weights; a profile says it."""

    @property
    def takes_zero_points_of_weights(self) -> bool:
        """Whether weights beside floats may have zero points that are not 0."""

    @property
    def takes_part_of_a_block(self) -> bool:
        """Whether the last block of inputs may be shorter; where not, such weights have a scale a channel."""

    @property
    def keeps_matmuls_apart(self) -> bool:
        """Whether a scale a channel is left to matrices on the right."""

    @property
    def has_one_scale_beside_states(self) -> bool:
        """Whether weights of recurrent layers have one scale each."""


@dataclass(frozen=True)
class Storage:
    """How weights are stored in the file."""

    config: QuantizationConfig
    """The settings of the run."""
    runtime: WeightRules
    """The profile of the runtime that the file is for."""


Stored = Storage | None
"""What says how weights are stored; None: as codes alone."""


def _bit_operations(layer: Layer, precision: Precision, stored: Stored) -> int:
    return layer.bit_operations(precision)


def _weight_bytes(layer: Layer, precision: Precision, stored: Stored) -> int:
    """Those of the codes, of scales and zero points beside them, and of what a precision has a say in of the biases.

    Zero points of signed codes of 4 bits are written only beside floats, those of 2 bits nowhere: they are 0.
    """
    bits = precision.weights.bits
    codes = math.ceil(layer.weight_elements * bits / 8)
    if stored is None or not layer.weights or precision.weights.is_float:
        return codes
    config = stored.config
    block = _block(layer, precision, stored)
    scales = _scales(layer, precision, stored) if block is None else _blocks(layer, block)
    scale_bytes = 2 if config.halves_scales(scales, block) else 4
    has_zeros = bits == 4 and precision.is_weight_only and stored.runtime.takes_zero_points_of_weights
    zero_points = max(math.ceil(scales * bits / 8), len(layer.weights))  # a tensor takes whole bytes
    if bits <= 4 and precision.weights.signed and not has_zeros:
        zero_points = 0
    biases = 0
    if block is None and not precision.activations.is_float:
        biases = layer.biases * _bias_bytes(layer, precision, scales, config)
    return codes + zero_points + scales * scale_bytes + biases


def _block(layer: Layer, precision: Precision, stored: Storage) -> int | None:
    """How many inputs share a scale of a layer's weights; None where they have no blocks."""
    size = stored.config.block_size if precision.block is None else precision.block or None
    if size is None or not precision.takes_blocks or layer.op not in _WITH_BLOCKS or _has_one_scale(layer, stored):
        return None
    lengths = [_inputs(layer, shape) for shape in layer.weight_shapes]
    if None in lengths:
        return None
    return size if stored.runtime.takes_part_of_a_block or all((one or 0) % size == 0 for one in lengths) else None


def _has_one_scale(layer: Layer, stored: Storage) -> bool:
    """Return whether weights have one scale each whatever is asked for."""
    return layer.op in RECURRENT_OPS and stored.runtime.has_one_scale_beside_states


def _blocks(layer: Layer, size: int) -> int:
    """Return how many blocks weights have, the last of each channel maybe shorter."""
    lengths = [(math.prod(shape), _inputs(layer, shape) or 1) for shape in layer.weight_shapes]
    return sum(elements // length * math.ceil(length / size) for elements, length in lengths)


def _inputs(layer: Layer, shape: Sequence[int]) -> int | None:
    """Return the length of the axis of inputs of a layer's weight; None where its nodes do not agree on one."""
    if len(shape) == 1 or layer.op in RECURRENT_OPS:
        return shape[-1]
    sides = shape[-2:]
    return math.prod(sides) // layer.channels if layer.channels in sides else None


def _scales(layer: Layer, precision: Precision, stored: Storage) -> int:
    """Return how many scales weights have that are not in blocks."""
    is_whole = precision.block == PER_TENSOR or not stored.config.per_channel or _has_one_scale(layer, stored)
    if layer.op == "MatMul" and stored.runtime.keeps_matmuls_apart:
        is_whole = is_whole or len(layer.weight_shape) > 2 or _is_on_the_left(layer)
    return len(layer.weights) if is_whole else layer.channels


def _is_on_the_left(layer: Layer) -> bool:
    """Return whether a matrix is known by its shape to be the left factor; a square one is taken for the right."""
    rows, columns = layer.weight_shape if len(layer.weight_shape) == 2 else (0, 0)
    return rows == layer.channels != columns


def _bias_bytes(layer: Layer, precision: Precision, scales: int, config: QuantizationConfig) -> int:
    """Those of the scales of int32 biases, and of small biases: of their codes, or in float16."""
    if config.biases == "small":
        kind = config.own_bias_type(precision) or DataType.FLOAT16
        return math.ceil(layer.channels * kind.bits / 8)
    return 4 * scales if config.biases == "int32" else 0


_WITH_BLOCKS = ("MatMul", "Gemm", *RECURRENT_OPS, TABLE_OP)
"""Operators whose weights may have a scale a block."""


def _activation_bytes(layer: Layer, precision: Precision, stored: Stored) -> int:
    return math.ceil(layer.activation_elements * precision.activations.bits / 8)


COUNTED: Mapping[str, tuple[str, Callable[[Layer, Precision, Stored], int]]] = {
    "bops": ("bit operations", _bit_operations),
    "bytes": ("bytes", _weight_bytes),
    "activation-bytes": ("bytes", _activation_bytes),
}
"""Costs that follow from the model alone, by name: unit, and the price of a layer. `bytes` are those that weights take
in the file, `activation-bytes` of what layers read."""


def counted_cost(
    name: str,
    layers: Sequence[Layer],
    precisions: Iterable[Precision],
    others: Sequence[OtherProduct] = (),
    stored: Stored = None,
) -> CostModel:
    """The price list of a counted cost. The wide precision is the first; `others` cost the same in every plan.

    `stored` says which scales weights have.
    """
    unit, price = COUNTED[name]
    ladder = tuple(precisions)
    prices = {(layer.name, precision): price(layer, precision, stored) for layer in layers for precision in ladder}
    return CostModel(name, unit, prices, sum(_fixed(name, other, ladder[0]) for other in others))


_FLOAT = Precision.parse("float32")


def _fixed(name: str, other: OtherProduct, wide: Precision) -> int:
    """Return what an operator costs that is no layer; nothing where that is not known."""
    precision = wide if other.wide else _FLOAT
    if name == "bops":
        return (other.macs or 0) * precision.bit_product
    return math.ceil(other.weight_elements * precision.weights.bits / 8) if name == "bytes" else 0
