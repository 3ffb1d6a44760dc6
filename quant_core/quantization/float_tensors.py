"""The tensors that a plan may leave in float while its layers are quantized."""

from __future__ import annotations

from quant_core.model.edge_types import edge_types
from quant_core.model.operators import Role
from quant_core.model.topology import Topology
from quant_core.precision import PrecisionPlan
from quant_core.quantization.quantizer import Quantizer

__all__ = ["float_candidates"]


def float_candidates(quantizer: Quantizer) -> list[tuple[str, ...]]:
    """Return the tensors that carry the wide type for a reader that is no layer, in graph order.

    Tensors that have one scale between them are one group: leaving one of them in float changes nothing while another
    is quantized. What only layers read is not among them, for a layer quantizes what it reads; nor is what a layer
    without a weight reads, which would then compute in float. Constant operands are groups of their own.
    """
    config, topology = quantizer.config, quantizer.topology
    wide = PrecisionPlan.uniform([layer.name for layer in quantizer.layers], config.wide)
    carried = edge_types(topology, wide, config.wide, config.dual_pairs, config.others_type).base
    groups: dict[str, list[str]] = {}
    for name in [*topology.graph.inputs, *topology.graph.producer]:
        if name in carried and _may_be_float(topology, name):
            groups.setdefault(quantizer.range_key(name), []).append(name)
    return [*map(tuple, groups.values()), *((name,) for name in _constants(topology))]


def _may_be_float(topology: Topology, name: str) -> bool:
    graph = topology.graph
    readers = [index for index, _ in graph.readers.get(name, ())]
    layers = [index for index in readers if topology.roles[index] in (Role.LAYER, Role.RECURRENT)]
    weightless = any(not any(map(graph.is_float_constant, graph.nodes[index].input[:2])) for index in layers)
    return not weightless and (len(layers) < len(readers) or name in graph.outputs)


def _constants(topology: Topology) -> list[str]:
    """Constant operands of computations that are no layers."""
    found = [
        name
        for index, node in enumerate(topology.graph.nodes)
        if topology.roles[index] is Role.COMPUTE and topology.takes_constants(index)
        for name in node.input
        if topology.graph.is_float_constant(name)
    ]
    return list(dict.fromkeys(found))
