"""The weight of a layer in a type: along which axis it has scales, and where its codes come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.calibration.weight_ranges import constant_qparams
from quant_core.config.quantization import QuantizationConfig
from quant_core.errors import UnsupportedError
from quant_core.model.graph import FloatGraph, integer_attribute
from quant_core.model.layers import Layer
from quant_core.model.operators import RECURRENT_OPS, TABLE_OP
from quant_core.model.opset import OPSET, opset_of, pair_domain
from quant_core.model.weight_axes import input_axis, output_axis
from quant_core.numerics import QParams, dequantize, quantize
from quant_core.precision import PER_TENSOR, DataType, Precision
from quant_core.quantization.half_scales import with_half_scales
from quant_core.runtimes.byte_sums import limited, overflows
from quant_core.runtimes.registry import profile_of
from quant_core.storage.schemas import WEIGHTS

__all__ = [
    "Rounding",
    "Weight",
    "WeightKind",
    "check_blocks",
    "has_blocks",
    "reduction_axis",
    "weight_axis",
    "weight_qparams",
    "weight_sums_overflow",
    "weights_from_tables",
    "weights_table",
    "weights_with_limited_sums",
]


@dataclass(frozen=True)
class WeightKind:
    """How a weight is held: what its scales follow from, and its codes."""

    dtype: DataType
    """Type of the codes."""
    alone: bool
    """Whether its layer reads floats: no integer kernel then says what it may be like."""
    block: int | None = None
    """How many inputs share a scale, as its precision says, or PER_TENSOR; None: as the configuration does."""

    @classmethod
    def of(cls, precision: Precision) -> WeightKind:
        """Return how layers of a precision hold their weights."""
        return cls(precision.weights, precision.is_weight_only, precision.block)

    def has_zero_points(self, config: QuantizationConfig) -> bool:
        """Return whether zero points are chosen, not 0: of unsigned codes, and of 4-bit ones beside floats."""
        taken = self.alone and self.dtype.bits == 4 and profile_of(config.runtime).takes_zero_points_of_weights
        return not self.dtype.signed or taken

    def block_size(self, config: QuantizationConfig) -> int | None:
        """Return how many inputs may share a scale; None where all of an output channel do."""
        if self.block is not None:
            return self.block or None
        activations = DataType.FLOAT32 if self.alone else DataType.INT16
        return config.block_size if Precision(activations, self.dtype).takes_blocks else None


@dataclass(frozen=True)
class Rounding:
    """How the codes of a weight were chosen."""

    method: str = "nearest"
    """`nearest`, `second order`, either with ` on a fitted grid` behind it, or `reconstruction`."""
    error: float | None = None
    """What that leaves of the squared error: of what the layer puts out or, for a layer that is no product of matrices,
    of the weight. For a reconstruction, of that with the weight it had, on samples held out; else of that with codes
    rounded to nearest. None where that was not measured, or was 0."""


@dataclass(frozen=True)
class Weight:
    """A quantized weight."""

    codes: NDArray[np.generic]
    """Shaped as the float weight."""
    qparams: QParams
    """Per tensor, per channel along `axis`, or per block of values along it."""
    axis: int | None
    """The axis of channels or blocks; None per tensor."""
    bias_shift: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    """What is added to biases, to make up for the rounding on average: one an output channel, or one for all."""
    rounding: Rounding = Rounding()
    """How the codes were chosen."""


def weight_qparams(
    graph: FloatGraph, layer: Layer, values: NDArray[np.float32], kind: WeightKind, config: QuantizationConfig
) -> tuple[QParams, int | None]:
    """Scales of a layer's weight, of which these are the values, and their axis."""
    _check_opset(graph, kind.dtype)
    axis, block = _scale_axis(graph, layer, kind, config)
    qparams = constant_qparams(values, kind.dtype, not kind.has_zero_points(config), config, axis, block)
    return with_half_scales(qparams, config), axis


def _check_opset(graph: FloatGraph, kind: DataType) -> None:
    """Raise UnsupportedError for 2-bit weights of a model that could not be brought to the opset which has them."""
    if kind.bits == 2 and (pair_domain(graph.model) or opset_of(graph.model) < kind.first_opset):
        raise UnsupportedError(
            f"{kind} weights need the standard's pairs of opset {kind.first_opset}; this model is at "
            f"{opset_of(graph.model)}: leave them out"
        )


def _scale_axis(
    graph: FloatGraph, layer: Layer, kind: WeightKind, config: QuantizationConfig
) -> tuple[int | None, int | None]:
    """The axis a weight has scales along, and how many values share one, if not a whole channel."""
    has_one_beside_states = layer.op in RECURRENT_OPS and profile_of(config.runtime).has_one_scale_beside_states
    if kind.block == PER_TENSOR or has_one_beside_states:
        return None, None
    if has_blocks(graph, layer, kind, config):
        return reduction_axis(graph, layer), kind.block_size(config)
    if profile_of(config.runtime).keeps_matmuls_apart and _has_one_scale(graph, layer):
        return None, None
    return (weight_axis(graph, layer) if config.per_channel else None), None


def _has_one_scale(graph: FloatGraph, layer: Layer) -> bool:
    """Return whether ONNX Runtime's kernel for 8-bit activations refuses a scale a channel of a MatMul's weight.

    It takes one of a matrix on the right; of stacked matrices, or on the left, it takes none.
    """
    on_the_left = any(graph.nodes[index].input[0] == layer.weight for index in layer.nodes)
    return layer.op == "MatMul" and (on_the_left or len(layer.weight_shape) > 2)


def has_blocks(graph: FloatGraph, layer: Layer, kind: WeightKind, config: QuantizationConfig) -> bool:
    """Return whether a weight has a scale for each block of inputs."""
    if kind.block:
        check_blocks(graph, f"b{kind.block}")
    size, axis = kind.block_size(config), reduction_axis(graph, layer)
    if size is None or axis is None:
        return False
    are_whole = all(shape[axis] % size == 0 for shape in layer.weight_shapes)
    return are_whole or profile_of(config.runtime).takes_part_of_a_block


def check_blocks(graph: FloatGraph, asked: str) -> None:
    """Raise UnsupportedError for a model whose pairs have no scale a block, naming what asks for one."""
    if pair_domain(graph.model):
        raise UnsupportedError(
            f"{asked} needs the standard's pairs of opset {OPSET}; this model, at opset {opset_of(graph.model)}, gets "
            "ONNX Runtime's: leave it out, or use per_channel"
        )


def weight_axis(graph: FloatGraph, layer: Layer) -> int | None:
    """The axis of a layer's weights for output channels, a table's rows, a recurrent node's gates and hidden units.

    None when nodes do not agree on one, and for a MatMul with a vector, which has a single output.
    """
    rank = len(layer.weight_shape)
    if rank == 1:
        return None
    axes = {output_axis(graph.nodes[index], layer.weight, rank) for index in layer.nodes}
    return axes.pop() if len(axes) == 1 else None


def reduction_axis(graph: FloatGraph, layer: Layer) -> int | None:
    """The input axis of a MatMul's, Gemm's or recurrent node's weight, or that along the rows of a Gather's table.

    None of other layers, or when nodes do not agree on one.
    """
    rank = len(layer.weight_shape)
    axes = {input_axis(graph.nodes[index], layer.weight, rank) for index in layer.nodes}
    return axes.pop() if len(axes) == 1 else None


def weight_sums_overflow(graph: FloatGraph, layer: Layer, weight: Weight) -> bool:
    """Return whether sums of 8-bit products with a weight may leave 16 bits (see `byte_sums`).

    A recurrent node adds up floats.
    """
    for index in layer.nodes:
        node = graph.nodes[index]
        group = integer_attribute(node, "group", 1)
        inputs = None if node.input[0] == layer.weight else input_axis(node, layer.weight, len(layer.weight_shape))
        if node.op_type in _ADDS_UP_BYTES and overflows(node.op_type, weight.codes, inputs, group):
            return True
    return False


_ADDS_UP_BYTES = ("Conv", "Gemm", "MatMul")


def weights_with_limited_sums(graph: FloatGraph, layer: Layer, values: NDArray[np.float32], weight: Weight) -> Weight:
    """A weight with codes whose sums stay within 16 bits, at the scale of least squared error.

    Each channel has its own scale if it had one before. Where nodes read the weight in several ways it stays as it is.
    """
    channels, inputs = weight_axis(graph, layer), reduction_axis(graph, layer)
    op_type = next(kind for index in layer.nodes if (kind := graph.nodes[index].op_type) != TABLE_OP)
    on_the_left = any(graph.nodes[index].input[0] == layer.weight for index in layer.nodes)
    if on_the_left or (channels is None and values.ndim > 1):
        return weight
    tried = []
    for growth in _GROWTHS:
        qparams = replace(weight.qparams, scale=np.asarray(weight.qparams.scale * np.float32(growth), np.float32))
        codes = limited(op_type, quantize(values, qparams, weight.axis), inputs)
        error = np.square(dequantize(codes, qparams, weight.axis) - values, dtype=np.float64)
        if channels is not None:
            error = np.moveaxis(error, channels, 0).reshape(values.shape[channels], -1).sum(axis=1)
        tried.append(error if qparams.scale.ndim else error.sum())
    best = np.take(_GROWTHS, np.argmin(tried, axis=0)).astype(np.float32)
    qparams = replace(weight.qparams, scale=np.asarray(weight.qparams.scale * best, np.float32))
    return replace(weight, codes=limited(op_type, quantize(values, qparams, weight.axis), inputs), qparams=qparams)


_GROWTHS = 1 + np.arange(11, dtype=np.float32) / 10
"""By how much scales are grown: at twice the scale no sum overflows."""


def weights_table(
    chosen: Mapping[tuple[str, str], Weight], kind: WeightKind, precision: Precision | None = None
) -> pa.Table:
    """Weights of a kind, by the names of their layer and their own, as a table of schema WEIGHTS.

    They are those of layers at any precision, or at one.
    """
    rows = [
        {
            "layer": layer,
            "weight": name,
            "type": kind.dtype.code,
            "alone": kind.alone,
            "block": kind.block,
            "codes": weight.codes.astype(np.int16).ravel(),
            "scale": weight.qparams.scale.ravel(),
            "zero_point": weight.qparams.zero_point.ravel(),
            "scale_shape": list(weight.qparams.scale.shape),
            "bias_shift": weight.bias_shift if weight.bias_shift.ndim else None,
            "precision": None if precision is None else str(precision),
            "rounding": weight.rounding.method,
            "error": weight.rounding.error,
        }
        for (layer, name), weight in chosen.items()
    ]
    return pa.Table.from_pylist(rows, schema=WEIGHTS)


def weights_from_tables(
    graph: FloatGraph, layers: Sequence[Layer], config: QuantizationConfig, tables: Sequence[pa.Table]
) -> dict[tuple[str, WeightKind | Precision], Weight]:
    """The weights that tables of schema WEIGHTS hold, by name and the precision they are for, or else their kind."""
    named = {layer.name: layer for layer in layers}
    found: dict[tuple[str, WeightKind | Precision], Weight] = {}
    for table in tables:
        for at, layer in enumerate(table.column("layer").to_pylist()):
            row = {column: table.column(column)[at] for column in table.schema.names}
            precision, *held = (row[column].as_py() for column in ("precision", "type", "alone", "block"))
            kind = WeightKind(_TYPES[held[0]], *held[1:])
            weight = _weight(graph, named[layer], kind, config, row)
            found[row["weight"].as_py(), kind if precision is None else Precision.parse(precision)] = weight
    return found


_TYPES = {kind.code: kind for kind in DataType}


def _weight(
    graph: FloatGraph, layer: Layer, kind: WeightKind, config: QuantizationConfig, row: Mapping[str, pa.Scalar]
) -> Weight:
    dtype, shape = kind.dtype, tuple(row["scale_shape"].as_py())
    axis, block = _scale_axis(graph, layer, kind, config)
    scale, zero_point = (_values(row[part]).reshape(shape) for part in ("scale", "zero_point"))
    dims = graph.initializers[row["weight"].as_py()].dims
    codes = _values(row["codes"]).reshape(dims).astype(dtype.numpy_type)
    shift = _values(row["bias_shift"]) if row["bias_shift"].is_valid else np.zeros(())
    return Weight(codes, QParams(dtype, scale, zero_point, block), axis, shift)


def _values(entry: pa.Scalar) -> NDArray[Any]:
    """The values of a list in a table, without a Python object for each."""
    return np.asarray(entry.values.to_numpy(zero_copy_only=False))
