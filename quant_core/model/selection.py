"""What the user takes out by name or operator: nodes that stay in float.

A node that stays in float bears a mark in the prepared model, so that every later step reads the same of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import onnx

from quant_core.errors import InputError
from quant_core.model.notes import OWN_PREFIX

__all__ = [
    "OPERATOR",
    "forget_origins",
    "is_left_in_float",
    "leave_in_float",
    "names_meant",
    "names_of_operator",
    "note_origins",
    "origins_of",
]

OPERATOR = "op:"
"""Begins a rule that is about an operator: `op:Softmax`, or a pattern of operators, `op:*Pool`."""

_MARK = f"{OWN_PREFIX}float"
_ORIGIN = f"{OWN_PREFIX}from"


def leave_in_float(model: onnx.ModelProto, patterns: Sequence[str]) -> None:
    """Mark the nodes that names or patterns mean; raises InputError for one that means none.

    Names are those of the prepared model or of the user's, of which several nodes may have become one.
    """
    nodes = model.graph.node
    origins = {node.name: origins_of(node) for node in nodes}
    operators = {node.name: node.op_type for node in nodes}
    meant = names_meant(operators, patterns, "exclude", "node", origins)
    for node in model.graph.node:
        if node.name in meant:
            node.metadata_props.add(key=_MARK, value="left in float as asked for")


def is_left_in_float(node: onnx.NodeProto) -> bool:
    """Return whether a node of a prepared model is to stay in float."""
    return any(entry.key == _MARK for entry in node.metadata_props)


def note_origins(given: onnx.ModelProto, prepared: onnx.ModelProto) -> None:
    """Note down in each prepared node which nodes of the user's model it was made of, where names differ.

    A node whose output is gone went into the node that its readers went into.
    """
    writer = {name: node for node in prepared.graph.node for name in node.output if name}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in given.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    named = {node.name for node in prepared.graph.node}
    became: dict[str, dict[str, onnx.NodeProto]] = {}
    for node in reversed(given.graph.node):
        into = [writer[name] for name in node.output if name in writer]
        further = [one for name in node.output for reader in readers.get(name, ()) for one in _became(became, reader)]
        became[node.output[0]] = {one.name: one for one in into or further}
        for one in became[node.output[0]].values():
            if node.name and node.name not in named:
                one.metadata_props.add(key=_ORIGIN, value=node.name)


def forget_origins(model: onnx.ModelProto) -> None:
    """Take from the nodes what `note_origins` noted down."""
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != _ORIGIN]
        if len(kept) < len(node.metadata_props):
            del node.metadata_props[:]
            node.metadata_props.extend(kept)


def _became(became: Mapping[str, Mapping[str, onnx.NodeProto]], node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The prepared nodes that a node went into."""
    return list(became.get(node.output[0], {}).values())


def origins_of(node: onnx.NodeProto) -> list[str]:
    """Names of the nodes of the user's model that a prepared node was made of, where they differ from its own."""
    return [entry.value for entry in node.metadata_props if entry.key == _ORIGIN]


def names_meant(
    operators: Mapping[str, str],
    patterns: Sequence[str],
    option: str,
    kind: str,
    origins: Mapping[str, Sequence[str]] | None = None,
) -> set[str]:
    """The names that patterns mean; one that is there as it is written is no pattern.

    Args:
        operators: the names, each with its operator.
        patterns: names, patterns of names, and operators behind `op:`.
        option: what the patterns were given as, for messages.
        kind: what has the names, for messages.
        origins: further names that each of them goes by.

    Raises InputError for a pattern that means none.

    """
    found: set[str] = set()
    known: dict[str, set[str]] = {name: {name} for name in operators}
    for name, others in (origins or {}).items():
        for other in others:
            known.setdefault(other, set()).add(name)
    for pattern in patterns:
        if pattern.startswith(OPERATOR) and pattern not in known:
            found.update(names_of_operator(operators, pattern, option, kind))
            continue
        meant = [pattern] if pattern in known else [name for name in known if fnmatchcase(name, pattern)]
        if not meant:
            near = get_close_matches(pattern, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join([*operators][:5])}, ..."
            raise InputError(f"{option}: no {kind} has the name {pattern!r}{hint}")
        found.update(*(known[name] for name in meant))
    return found


def names_of_operator(operators: Mapping[str, str], pattern: str, option: str, kind: str) -> list[str]:
    """The names whose operator a rule such as `op:Conv` means; raises InputError where there is none."""
    wanted = pattern.removeprefix(OPERATOR)
    found = [name for name, operator in operators.items() if fnmatchcase(operator, wanted)]
    if not found:
        there = sorted(set(operators.values()))
        near = get_close_matches(wanted, there, n=1)
        hint = f"; did you mean '{OPERATOR}{near[0]}'?" if near else f"; there are {', '.join(there) or 'none'}"
        raise InputError(f"{option}: no {kind} has the operator {wanted!r}{hint}")
    return found
