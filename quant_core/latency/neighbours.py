"""Which layers hand tensors to each other: where two such layers differ in precision, a plan has a boundary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from quant_core.model.layers import Layer
from quant_core.model.operators import Role
from quant_core.model.topology import Topology

__all__ = ["Neighbours", "neighbours_of"]


@dataclass(frozen=True)
class Neighbours:
    """Two layers with a tensor in common, nothing but movers and fused activations between."""

    first: str
    """Name of the one that writes it; of two that read it, the one that comes first in the graph."""
    second: str
    """Name of the one that reads it."""
    relation: Literal["writes", "shares"]
    """What the first does with the tensor: it writes it for the second, or reads it beside it."""
    elements: int
    """Values of the tensor for one sample, about."""


def neighbours_of(topology: Topology, layers: Sequence[Layer]) -> list[Neighbours]:
    """Return all pairs of neighbours, each once, in graph order."""
    order = {layer.name: at for at, layer in enumerate(layers)}
    elements = {layer.name: layer.activation_elements for layer in layers}
    found: dict[tuple[str, str], Neighbours] = {}
    for source, readers in _consumers(topology).items():
        named = sorted({topology.layer_of[index] for index in readers}, key=order.__getitem__)
        writer = topology.layer_of.get(topology.graph.producer.get(source, -1))
        for at, reader in enumerate(named):
            before = [(other, "shares") for other in named[:at]]
            for first, relation in [*before, *([(writer, "writes")] if writer else [])]:
                if first != reader:
                    found.setdefault(
                        (first, reader),
                        Neighbours(first, reader, "writes" if relation == "writes" else "shares", elements[reader]),
                    )
    return sorted(found.values(), key=lambda pair: (order[pair.first], order[pair.second]))


def _consumers(topology: Topology) -> Mapping[str, list[int]]:
    """Nodes of layers that read what a tensor holds, moved or not, by the tensor as it was first written."""
    found: dict[str, list[int]] = {}
    for index in topology.layer_of:
        for position in topology.quantized_inputs(index):
            for source in _origins(topology, topology.graph.nodes[index].input[position]):
                found.setdefault(source, []).append(index)
    return found


def _origins(topology: Topology, name: str) -> Iterator[str]:
    """The tensors that a tensor is made of: what movers moved, and what stands in front of a fused activation."""
    graph = topology.graph
    producer = graph.producer.get(name)
    if producer is None:
        yield name
    elif topology.roles[producer] is Role.MOVER:
        for position in topology.quantized_inputs(producer):
            yield from _origins(topology, graph.nodes[producer].input[position])
    elif graph.nodes[producer].input and graph.nodes[producer].input[0] in topology.fused:
        yield from _origins(topology, graph.nodes[producer].input[0])
    else:
        yield name
