"""Which types each tensor has in a plan, and what range each type gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from quant_core.config import QuantizationConfig
from quant_core.model.edge_types import edge_types
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import layers_from_table
from quant_core.numerics import QParams
from quant_core.precision import DataType, PrecisionPlan
from quant_core.quantization.quantizer import Quantizer
from quant_core.storage.tables import with_facts

__all__ = ["with_tensor_types"]


def with_tensor_types(
    calibration: pa.Table,
    graph: FloatGraph,
    layers: pa.Table,
    plan: PrecisionPlan,
    config: QuantizationConfig,
    kinds: Sequence[DataType],
) -> pa.Table:
    """Return the calibration table with two facts that show why a tensor lost precision.

    `ranges`: for each tensor, by type of `kinds`, the smallest and the largest value the type would hold.
    `carried`: for each tensor, the types it has in the plan; more than one at a precision boundary.
    """
    quantizer = Quantizer(graph, layers_from_table(layers), calibration, config)
    tensors = calibration.column("tensor").to_pylist()
    ranges = {
        name: {kind.name.lower(): _held(quantizer.activation(name, kind)) for kind in kinds if not kind.is_float}
        for name in tensors
    }
    return with_facts(calibration, ranges=ranges, carried=_carried(quantizer, plan, config))


def _held(qparams: QParams) -> tuple[float, float]:
    """The smallest and the largest value of a tensor's codes."""
    smallest, largest = qparams.dtype.code_range
    zero_point, scale = int(qparams.zero_point), float(qparams.scale)
    return (smallest - zero_point) * scale, (largest - zero_point) * scale


def _carried(quantizer: Quantizer, plan: PrecisionPlan, config: QuantizationConfig) -> Mapping[str, list[str]]:
    types = edge_types(quantizer.topology, plan, config.wide, config.dual_pairs, config.others_type)
    found = {name: {kind.name.lower(): None} for name, kind in types.base.items()}
    for (index, position), kind in types.demand.items():
        name = quantizer.graph.nodes[index].input[position]
        if name in found:
            found[name][kind.name.lower()] = None
    return {name: list(kinds) for name, kinds in found.items()}
