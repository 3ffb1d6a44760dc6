"""What a plan costs: bit operations, bytes, or whatever else has a price for each layer at each precision.

A cost model is a price list of layers and, for a cost that is measured, of boundaries: what it takes besides where two
neighbours differ in precision. The search asks it for prices and totals only, so that a cost that is measured is used
just as one that is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from quant_core.config.quantization import QuantizationConfig
from quant_core.model.layers import Layer
from quant_core.model.operators import RECURRENT_OPS, TABLE_OP
from quant_core.model.other_products import OtherProduct
from quant_core.precision import PER_TENSOR, Precision, PrecisionPlan

__all__ = ["COUNTED", "Boundary", "CostModel", "counted_cost"]


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


Stored = QuantizationConfig | None
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
    block = stored.block_size if precision.block is None else precision.block or None
    block = block if precision.takes_blocks and layer.op in _WITH_BLOCKS else None
    is_whole = precision.block == PER_TENSOR or not stored.per_channel
    scales = len(layer.weights) if is_whole else layer.channels
    if block is not None:
        scales = math.ceil(layer.weight_elements / block)
    scale_bytes = 2 if stored.halves_scales(scales, block) else 4
    has_zeros = not precision.weights.signed or (bits == 4 and precision.is_weight_only)
    zero_points = 0 if bits <= 4 and not has_zeros else math.ceil(scales * bits / 8)
    biases = 0
    if block is None and not precision.activations.is_float:
        biases = layer.biases * _bias_bytes(layer, precision, scales, stored)
    return codes + zero_points + scales * scale_bytes + biases


def _bias_bytes(layer: Layer, precision: Precision, scales: int, stored: QuantizationConfig) -> int:
    """Those of the scales of int32 biases, and of small biases, which are of 8 or 16 bits."""
    if stored.biases == "small":
        return layer.channels * (2 if stored.leaves_biases(precision) else 1)
    return 4 * scales if stored.biases == "int32" else 0


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
