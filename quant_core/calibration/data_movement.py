"""Tensors that hold just the values of others in other places: nothing needs to be counted to know their histograms."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import reduce

from quant_core.calibration.histogram import Histogram
from quant_core.model.graph import FloatGraph

__all__ = ["merged_histograms", "moved_tensors", "together"]

_REARRANGING = frozenset(
    "Concat DepthToSpace Flatten Identity Reshape SpaceToDepth Squeeze Transpose Unsqueeze".split()
)
"""Movers whose output holds every value of what they move, each once."""


def moved_tensors(
    graph: FloatGraph, tensors: Sequence[str], apart: Collection[str] = ()
) -> Mapping[str, tuple[str, ...]]:
    """Return the tensors that only move values of others, each with the tensors it takes them from, in graph order.

    Of the ones named in `apart` not all values are counted: what holds theirs has to be looked at itself.
    """
    counted, found = set(tensors).difference(apart), {}
    for node in graph.nodes:
        if node.op_type in _REARRANGING and not node.domain and node.output[0] in counted:
            sources = tuple(node.input if node.op_type == "Concat" else node.input[:1])
            if counted.issuperset(sources):
                found[node.output[0]] = sources
    return found


def merged_histograms(
    moved: Mapping[str, Sequence[str]], counted: Mapping[str, Histogram | None]
) -> Mapping[str, Histogram | None]:
    """`counted` and the histograms of the moved tensors; one without any value has no entry."""
    found = dict(counted)
    for name, sources in moved.items():
        parts = [found[source] for source in sources if source in found]
        if parts:
            found[name] = reduce(together, parts)
    return found


def together(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    """The histogram of both sets of values; None, which is that of values that no scale could hold, absorbs any."""
    return None if one is None or other is None else one.merge(other)
