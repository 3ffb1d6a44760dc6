"""What the user takes out by name: nodes that stay in float.

A node that stays in float bears a mark in the prepared model, so that every later step reads the same of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import onnx

from quant_core.errors import InputError

__all__ = ["is_left_in_float", "leave_in_float", "names_meant"]

_MARK = "narrowcast.float"


def leave_in_float(model: onnx.ModelProto, patterns: Sequence[str]) -> None:
    """Mark the nodes that names or patterns mean; raises InputError for one that means none."""
    meant = names_meant([node.name for node in model.graph.node], patterns, "exclude", "node")
    for node in model.graph.node:
        if node.name in meant:
            node.metadata_props.add(key=_MARK, value="left in float as asked for")


def is_left_in_float(node: onnx.NodeProto) -> bool:
    """Whether a node of a prepared model is to stay in float."""
    return any(entry.key == _MARK for entry in node.metadata_props)


def names_meant(names: Sequence[str], patterns: Sequence[str], option: str, kind: str) -> set[str]:
    """The names that patterns mean; one that is there as it is written is no pattern.

    Raises InputError for a pattern that means none.
    """
    found: set[str] = set()
    for pattern in patterns:
        meant = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
        if not meant:
            near = get_close_matches(pattern, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names[:5])}, ..."
            raise InputError(f"{option}: no {kind} has the name {pattern!r}{hint}")
        found.update(meant)
    return found
