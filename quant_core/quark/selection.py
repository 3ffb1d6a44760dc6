"""Which nodes Quark's fields leave in float, and which layers NoInputQDQShared leaves wide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from quant_core.errors import InputError, UnsupportedError
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import COMPUTE_OPS, PRODUCT_OPS, Role, role_of

__all__ = ["check_op_types", "left_in_float", "quantized_name", "shares_its_input"]

_OPS = frozenset(PRODUCT_OPS)


def left_in_float(fields: Mapping[str, Any], graph: FloatGraph, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Names of the nodes that stay in float, in graph order. `layers` are all that is quantized.

    Filters by operator type and by name are about what has numbers of its own; operators that only move values go
    with what they move, and stay in float where they are excluded by name. Raises InputError for unknown names.
    """
    counted = sorted(index for layer in layers for index in layer.nodes)
    ops = [*fields["op_types_to_quantize"], *fields["extra_op_types_to_quantize"]]
    chosen = _places(fields["nodes_to_quantize"], "nodes_to_quantize", graph, counted)
    left = {
        index
        for index in counted
        if (fields["op_types_to_quantize"] and graph.nodes[index].op_type not in ops)
        or (chosen and index not in chosen)
    }
    left |= _matching(fields["nodes_to_exclude"], graph)
    for starts, ends in _pairs(fields["subgraphs_to_exclude"]):
        first, last = (_places(names, "subgraphs_to_exclude", graph) for names in (starts, ends))
        left |= first | last | (_downstream(graph, first) & _upstream(graph, last))
    begin, end = (_places(fields[field], field, graph) for field in ("input_nodes", "output_nodes"))
    left |= (_upstream(graph, begin) - begin) | (_downstream(graph, end) - end)
    return tuple(graph.nodes[index].name for index in sorted(left))


def check_op_types(fields: Mapping[str, Any]) -> None:
    """Raise UnsupportedError for an operator type that is never quantized, InputError for what looks misspelt."""
    for field in ("op_types_to_quantize", "extra_op_types_to_quantize"):
        for op in fields[field]:
            if role_of(op, "", _OPS) is Role.FLOAT:
                near = get_close_matches(op, [*PRODUCT_OPS, *COMPUTE_OPS], n=1, cutoff=0.7)
                if near:
                    raise InputError(f"{field}: there is no operator {op!r} to quantize; did you mean {near[0]!r}?")
                raise UnsupportedError(f"{field}: {op} is not quantized; leave it out, it stays in float")


def quantized_name(layer: Layer, graph: FloatGraph, left: Iterable[str]) -> str | None:
    """The name of a layer once some nodes are left in float; None where nothing of it is quantized."""
    names = [graph.nodes[index].name for index in layer.nodes]
    return next((name for name in names if name not in left), None)


def shares_its_input(layer: Layer, graph: FloatGraph) -> bool:
    """Return whether something else reads the first input of a layer too."""
    return any(len(graph.readers[graph.nodes[index].input[0]]) != 1 for index in layer.nodes)


def _places(names: Sequence[str], field: str, graph: FloatGraph, among: Sequence[int] | None = None) -> set[int]:
    """Indices of nodes by name."""
    indices = range(len(graph.nodes)) if among is None else among
    known = {graph.nodes[index].name: index for index in indices}
    for name in names:
        if name not in known:
            raise InputError(f"{field}: nothing quantized is {name!r}{_meant(name, known)}")
    return {known[name] for name in names}


def _matching(patterns: Sequence[str], graph: FloatGraph) -> set[int]:
    """Indices of the nodes that names mean, or regular expressions, which are known by their `.*`."""
    found: set[int] = set()
    names = [node.name for node in graph.nodes]
    for pattern in patterns:
        if pattern in names or ".*" not in pattern:
            found |= _places([pattern], "nodes_to_exclude", graph)
            continue
        try:
            meant = [index for index, name in enumerate(names) if re.match(pattern, name)]
        except re.error as error:
            raise InputError(f"nodes_to_exclude: {pattern!r} is not a regular expression: {error}") from error
        if not meant:
            raise InputError(f"nodes_to_exclude: no node matches {pattern!r}")
        found.update(meant)
    return found


def _pairs(given: Any) -> list[tuple[list[str], list[str]]]:
    for pair in given:
        if not isinstance(pair, tuple | list) or [type(names) for names in pair] != [list, list]:
            raise InputError(f"subgraphs_to_exclude: give pairs such as (['first'], ['last']), not {pair!r}")
    return [(pair[0], pair[1]) for pair in given]


def _downstream(graph: FloatGraph, indices: set[int]) -> set[int]:
    """Nodes that some nodes have an influence on, themselves included."""
    found = set(indices)
    for index in range(len(graph.nodes)):
        if index in found:
            found |= {reader for name in graph.nodes[index].output for reader, _ in graph.readers.get(name, ())}
    return found


def _upstream(graph: FloatGraph, indices: set[int]) -> set[int]:
    """Nodes that have an influence on some nodes, themselves included."""
    found = set(indices)
    for index in reversed(range(len(graph.nodes))):
        read = {name for output in graph.nodes[index].output for name, _ in graph.readers.get(output, ())}
        if not found.isdisjoint(read):
            found.add(index)
    return found


def _meant(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
