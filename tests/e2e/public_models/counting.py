"""Multiply-accumulates of a model, counted from the shapes of a run: nothing here is narrowcast's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from tests.e2e.public_models.record import Arrays

__all__ = ["counted_macs"]

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU")
_GATES = {"LSTM": 4, "GRU": 3}


def counted_macs(path: Path, feeds: Arrays) -> int:
    """Count the multiply-accumulates of one call, the branches of an If that it takes included."""
    model = onnx.load(path)
    _take_branches(model, feeds)
    shapes = _shapes(model, feeds)
    layers = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    return sum(_macs(node, [shapes.get(name, ()) for name in (*node.input, *node.output)]) for node in layers)


def _take_branches(model: onnx.ModelProto, feeds: Arrays) -> None:
    """Put the branch that a call takes in the place of each If."""
    while chosen := [node for node in model.graph.node if node.op_type == "If"]:
        asked = [node.input[0] for node in chosen]
        conditions = dict(zip(asked, _values(model, asked, feeds), strict=True))
        nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            if node.op_type != "If":
                nodes.append(node)
                continue
            wanted = "then_branch" if bool(np.all(conditions[node.input[0]])) else "else_branch"
            branch = next(entry.g for entry in node.attribute if entry.name == wanted)
            model.graph.initializer.extend(branch.initializer)
            nodes += branch.node
            for outer, inner in zip(node.output, branch.output, strict=True):
                nodes.append(onnx.helper.make_node("Identity", [inner.name], [outer]))
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def _shapes(model: onnx.ModelProto, feeds: Arrays) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of everything that products read and write."""
    known = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    known |= {node.output[0]: tuple(node.attribute[0].t.dims) for node in constants}
    known |= {name: np.shape(array) for name, array in feeds.items()}
    layers = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    wanted = dict.fromkeys(name for node in layers for name in (*node.input, *node.output) if name)
    asked = [name for name in wanted if name not in known]
    return known | {name: np.shape(found) for name, found in zip(asked, _values(model, asked, feeds), strict=True)}


def _values(model: onnx.ModelProto, names: list[str], feeds: Arrays) -> list[np.ndarray]:
    """Run the model for tensors inside of it."""
    asking = onnx.ModelProto()
    asking.CopyFrom(model)
    del asking.graph.output[:], asking.graph.value_info[:]
    asking.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(asking.SerializeToString(), options, providers=["CPUExecutionProvider"])
    needed = {value.name for value in session.get_inputs()}
    found = session.run(None, {name: array for name, array in feeds.items() if name in needed})
    values = dict(zip(dict.fromkeys(names), found, strict=True))
    return [values[name] for name in names]


def _macs(node: onnx.NodeProto, shapes: list[tuple[int, ...]]) -> int:
    read, weight, written = shapes[0], shapes[1], shapes[len(node.input)]
    if node.op_type == "Conv":
        return math.prod(written) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(read) * math.prod(weight[1:])
    if node.op_type in _GATES:
        directions, _, hidden = shapes[2]
        return read[0] * read[1] * directions * _GATES[node.op_type] * hidden * (read[2] + hidden)
    transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
    return math.prod(written) * read[0 if transposed else -1]
