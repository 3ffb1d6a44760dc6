"""Names that plans make for what they add to the float graph, apart from all that are there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import count

from quant_core.model.graph import FloatGraph
from quant_core.precision import DataType

__all__ = ["mark_of", "names_taken", "shared_zero_point"]


def mark_of(graph: FloatGraph) -> str:
    """Return the end of made names; empty unless the float graph has a name that a plan might make."""
    taken = names_taken(graph)
    return next(mark for mark in map("~".__mul__, count()) if not any(_is_made(name, taken, mark) for name in taken))


def shared_zero_point(dtype: DataType, shape: Sequence[int]) -> str:
    """Return the name of the zero points of a type that are all 0, without the mark: `zero_point/8/64`."""
    return "/".join(["zero_point", dtype.code, *map(str, shape)])


def names_taken(graph: FloatGraph) -> frozenset[str]:
    """Return the names of all nodes and tensors of the float graph."""
    return frozenset(
        [*graph.inputs, *graph.producer, *graph.initializers, *(node.name for node in graph.nodes), *graph.outputs]
    )


_MADE = re.compile(
    r"(?:float|bias|codes|rounded|scale|zero_point|(?:De)?[Qq]uantizeLinear|Cast|Identity|"
    r"(?:b?float\d+|a?u?\d+)(?:wu?\d+(?:b\d+|t)?)?)(?P<mark>~*)(?:/.*)?"
)
"""What a plan puts behind the name of a tensor, constant or node, and a slash."""


_SHARED = re.compile(r"zero_point/[^/]+(?:/\d+)*?(?P<mark>~*)")
"""What a plan calls what belongs to no tensor, constant or node (see `shared_zero_point`)."""


def _is_made(name: str, taken: Collection[str], mark: str) -> bool:
    """Return whether a plan might make a name, of another one that is taken or of none."""
    shared = _SHARED.fullmatch(name)
    if shared is not None and shared["mark"] == mark:
        return True
    for at in (place for place, letter in enumerate(name) if letter == "/"):
        found = _MADE.fullmatch(name, at + 1)
        if found is not None and found["mark"] == mark and name[:at] in taken:
            return True
    return False
