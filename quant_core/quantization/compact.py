"""Makes a written model take fewer bytes: short names, no constant twice, nothing that says what is said elsewhere.

In a small file much is names: a scale has that of the tensor it belongs to, and is named by both nodes of a pair.
Inputs, outputs and the nodes of the float model keep their names, by which users and reports know them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, count, product
from string import ascii_letters

import onnx

from quant_core.model.graph import inner_graphs, nodes_inside, outer_names
from quant_core.model.opset import opset_of
from quant_core.quantization.idle_activations import without_idle_activations

__all__ = ["compacted"]


def compacted(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Return a model without names of nodes that are not among those `kept`, and with short names of tensors.

    Equal constants are stored once. Attributes at their defaults are left out, and so are activations that do what the
    pair behind them does, and declarations of tensors inside the graph, which shape inference finds.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    del graph.value_info[:]
    without_idle_activations(graph)
    duplicates = _duplicates(graph)
    _rename(graph, duplicates)
    _drop_unread(graph)
    for node in graph.node:
        if node.name not in kept:
            node.ClearField("name")
        written = [entry for entry in node.attribute if not _is_default(node, entry, opset_of(model))]
        del node.attribute[:]
        node.attribute.extend(written)
    names = _short_names(graph)
    _rename(graph, names)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return found


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Replace the names of tensors in the inputs and outputs of nodes."""
    for node in graph.node:
        for field in (node.input, node.output):
            other = [names.get(name, name) for name in field]
            del field[:]
            field.extend(other)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Take out the constants that nothing reads."""
    read = {name for node in graph.node for name in node.input} | _fixed_names(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _duplicates(graph: onnx.GraphProto) -> dict[str, str]:
    """Return, for each constant that repeats an earlier one and need not keep its name, the name of that one."""
    fixed = _fixed_names(graph)
    first: dict[bytes, str] = {}
    found = {}
    for tensor in graph.initializer:
        values = onnx.TensorProto()
        values.CopyFrom(tensor)
        values.ClearField("name")
        same = first.setdefault(values.SerializeToString(deterministic=True), tensor.name)
        if same != tensor.name and tensor.name not in fixed:
            found[tensor.name] = same
    return found


def _fixed_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of inputs and outputs, and of what subgraphs read."""
    ends = {value.name for value in (*graph.input, *graph.output)}
    return {*ends, *(name for node in graph.node for name in outer_names(node))}


def _short_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Return short names for the tensors of a graph, but for those that are fixed.

    What is named most often gets the shortest; of those named as often, what comes first.
    """
    fixed = _fixed_names(graph)
    taken = fixed | _names_inside(graph)
    free = (name for name in _words() if name not in taken)
    named = Counter(name for node in graph.node for name in (*node.input, *node.output) if name)
    return {name: next(free) for name, _ in named.most_common() if name not in fixed}


def _names_inside(graph: onnx.GraphProto) -> set[str]:
    """Return the names in bodies of nodes, which no tensor around them may have as well."""
    inner = [one for node in graph.node for one in nodes_inside(node)]
    bodies = [body for node in (*graph.node, *inner) for body in inner_graphs(node)]
    declared = {value.name for body in bodies for value in (*body.input, *body.initializer)}
    return declared.union(name for node in inner for name in node.output)


def _words() -> Iterator[str]:
    """Yield all words of letters, the shortest first."""
    return map("".join, chain.from_iterable(product(ascii_letters, repeat=length) for length in count(1)))


def _is_default(node: onnx.NodeProto, entry: onnx.AttributeProto, opset: int) -> bool:
    """Return whether an attribute of a standard operator is at its default, which weights may say."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _INFERRED_OTHERWISE:
        return False
    if entry.name == "kernel_shape" and node.op_type in _CONVOLUTIONS:
        return True
    value = onnx.helper.get_attribute_value(entry)
    if entry.name in _WINDOWS.get(node.op_type, {}):
        return all(one == _WINDOWS[node.op_type][entry.name] for one in value)
    known = onnx.defs.get_schema(node.op_type, opset).attributes.get(entry.name)
    default = None if known is None else known.default_value
    return default is not None and default.type == entry.type and onnx.helper.get_attribute_value(default) == value


_CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Operators whose windows are those of their weights, which need not be said again."""
_OF_A_WINDOW = {"strides": 1, "dilations": 1, "pads": 0}
_WINDOWS = dict.fromkeys((*_CONVOLUTIONS, "MaxPool", "AveragePool"), _OF_A_WINDOW)
"""Attributes with a value for each axis, and the default of each: no schema lists it."""
_INFERRED_OTHERWISE = ("STFT",)
"""Operators of which onnx (1.23) infers another shape without an attribute than with it at its default."""
