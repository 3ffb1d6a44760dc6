"""From a tensor's histogram to the range a type should cover."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quant_core.edges import Topology
from quant_core.histogram import Histogram
from quant_core.operators import Role, moving_inputs
from quant_core.precision import DataType

__all__ = ["METHODS", "RangeMethod", "range_groups"]

RangeMethod = Callable[[Histogram, DataType], tuple[float, float]]
"""Chooses (low, high) for a type from the values a tensor was seen to take."""

_PERCENTILE = 99.999


def minmax(histogram: Histogram, dtype: DataType) -> tuple[float, float]:
    """Everything that was seen."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, dtype: DataType) -> tuple[float, float]:
    """The central 99.999% of the values, each tail cut by half of the rest, for types of up to 8 bits.

    A type of 16 bits covers everything: its steps are so fine that cutting off even one value in 100,000
    costs more than it saves.
    """
    if dtype.bits > 8:
        return minmax(histogram, dtype)
    tail = (100 - _PERCENTILE) / 200
    return histogram.quantile(tail), histogram.quantile(1 - tail)


METHODS: Mapping[str, RangeMethod] = {"minmax": minmax, "percentile": percentile}
"""Range methods by the name the user gives."""


def range_groups(topology: Topology) -> Mapping[str, tuple[str, ...]]:
    """For each float tensor, the tensors whose values its scale is chosen from.

    A mover has the same scale on both sides: all tensors joined by movers share the values of those among
    them that no mover wrote.
    """
    graph = topology.graph
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    moved: set[str] = set()
    for index, node in enumerate(graph.nodes):
        outputs = [name for name in node.output if graph.is_float_activation(name)]
        if topology.roles[index] is Role.MOVER:
            inputs = [node.input[position] for position in moving_inputs(node.op_type, len(node.input))]
            inputs = [name for name in inputs if graph.is_float_activation(name)]
            moved.update(outputs if inputs else ())
            for name in [*inputs[1:], *(outputs if inputs else ())]:
                parent[root(name)] = root(inputs[0])
        for name in outputs:
            root(name)
    for name in graph.inputs:
        root(name)
    sources: dict[str, list[str]] = {}
    for name in parent:
        if name not in moved:
            sources.setdefault(root(name), []).append(name)
    return {name: tuple(sources[root(name)]) for name in parent}
