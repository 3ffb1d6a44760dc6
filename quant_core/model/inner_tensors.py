"""Tensors inside the model that are compared as outputs are; the shipped file has the user's outputs only."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import onnx

from quant_core.errors import InputError
from quant_core.model.graph import INSIDE, FloatGraph, nodes_inside, outer_names
from quant_core.model.notes import note
from quant_core.model.stored_model import write_variant

__all__ = ["inner_candidates", "inner_names", "names_said", "note_inner_tensors", "with_outputs"]


def names_said(output: str, known: Container[str]) -> list[str]:
    """Return the names in a choice of outputs: one, or several with commas between."""
    return [output] if output in known else [name.strip() for name in output.split(",")]


def inner_names(graph: FloatGraph, output: int | str) -> list[str]:
    """Return which tensors inside of the user's model a choice of outputs names.

    Raises InputError, with the nearest names, for one that no node writes.
    """
    if not isinstance(output, str) or output == "all" or output in graph.outputs:
        return []
    nodes = [inner for node in graph.nodes for inner in (node, *nodes_inside(node))]
    written = [written for node in nodes for written in node.output if written]
    names = names_said(output, written)
    unknown = next((name for name in names if name not in written), None)
    if unknown is not None:
        raise _unknown(graph, unknown, written)
    return [name for name in names if name not in graph.outputs]


def _unknown(graph: FloatGraph, name: str, written: Sequence[str]) -> InputError:
    outputs = ", ".join(f"{index}: {output}" for index, output in enumerate(graph.outputs))
    near = get_close_matches(name, written, n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return InputError(f"output {name!r}: the model has outputs {outputs}, and no tensor inside of that name{hint}")


def note_inner_tensors(given: onnx.ModelProto, prepared: onnx.ModelProto, output: str) -> bool:
    """Note down in a prepared model which tensors inside are compared, by their names in the given one; whether any is.

    Raises InputError for one that is no float tensor, or not there any more since the nodes around it were fused.
    """
    graph = FloatGraph(prepared, Path())
    written = {name for node in given.graph.node for name in node.output}
    names = [name for name in names_said(output, written) if name not in graph.outputs]
    if names:
        names_there = json.dumps({name: _name_there(given, graph, name) for name in names})
        note(prepared, INSIDE, names_there)
    return bool(names)


def _name_there(given: onnx.ModelProto, graph: FloatGraph, name: str) -> str:
    """Return what a tensor of the given model is called in the prepared one."""
    found = next((alias for alias in _aliases(given, name) if alias in graph.producer), None)
    if found is None:
        behind = next((one for one in _behind(given, name) if graph.is_float_activation(one)), None)
        way_out = f"compare {behind!r} behind it" if behind else "compare another tensor"
        raise InputError(
            f"output {name!r}: the nodes around this tensor were folded into one when the model was prepared, so it is "
            f"gone; {way_out}, or leave the model as it is with --no-optimize"
        )
    if not graph.is_float_activation(found):
        kind = str(onnx.TensorProto.DataType.Name(graph.element_type(found))).lower()
        raise InputError(f"output {name!r} is a tensor of type {kind}; inside the model only float ones are compared")
    return found


def _aliases(model: onnx.ModelProto, name: str) -> list[str]:
    """Return the names of a tensor's values: its own, and those that nodes give it which change nothing."""
    found = [name]
    for alias in found:
        for node in model.graph.node:
            if node.op_type in ("Identity", "Dropout") and alias in (node.input[0], node.output[0]):
                found += [other for other in (node.input[0], node.output[0]) if other not in found]
    return found


def _behind(model: onnx.ModelProto, name: str) -> Iterator[str]:
    """Yield the tensors that are computed from one, the nearest first."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for read in (*node.input, *outer_names(node)):
            readers.setdefault(read, []).append(node)
    found = [name]
    for one in found:
        for node in readers.get(one, ()):
            found += [output for output in node.output if output and output not in found]
        if one != name:
            yield one


_CHOOSING = frozenset(["NonMaxSuppression", "NonZero", "Compress", "Unique", "Loop", "If", "TopK", "Where"])
"""Operators whose outputs have a shape, or a meaning of each place, that values decide."""


def inner_candidates(graph: FloatGraph) -> list[str]:
    """Return the float tensors that nodes read which choose by values: they have the same shape for every sample."""
    read = [name for node in graph.nodes if node.op_type in _CHOOSING for name in node.input]
    return [name for name in dict.fromkeys(read) if name in graph.producer and graph.is_float_activation(name)]


def with_outputs(path: Path, names: Iterable[str], folder: Path) -> Path:
    """Write a copy of a model file into a folder, with tensors inside as outputs more; the file of constants is shared.

    Raises InputError where the file has no such tensor.
    """
    model = onnx.load(path, load_external_data=False)
    written = {output for node in model.graph.node for output in node.output}
    outputs = {value.name for value in model.graph.output}
    for name in names:
        if name not in written:
            raise InputError(
                f"output {name!r}: its operators were merged in the written model, which has no such tensor; compare "
                "another, or use the format qdq"
            )
        if name not in outputs:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    return write_variant(model, path, folder)
