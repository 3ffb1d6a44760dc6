"""How far each product of a file, run alone on what it reads there, is off in a default session of ONNX Runtime.

Alone means with its own pairs and the activation behind it: an error is that layer's, not one that has come down to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph
from quant_core.model.sessions import Numerics, open_nodes, session_options
from quant_core.runtimes.written_model import WrittenModel

__all__ = ["captured", "layer_errors"]

_ACTIVATIONS = ("Relu", "Clip")

Arrays = Mapping[str, NDArray[np.generic]]


def layer_errors(graph: FloatGraph, feeds: Arrays) -> dict[str, float]:
    """The error of each layer's result, as a share of its magnitude, by the layer's name.

    `graph` is the quantized file's, `feeds` a batch of its inputs. A layer is left out where another graph's body reads
    what is in it.
    """
    alone = {part[-1].name: part for part in map(_Parts(graph).of_layer, _layer_names(graph)) if part}
    return dict(_errors(graph, feeds, alone))


def _layer_names(graph: FloatGraph) -> list[str]:
    return [layer.node.name for layer in WrittenModel(graph.model).products]


class _Parts:
    """Cuts layers out of a graph."""

    def __init__(self, graph: FloatGraph) -> None:
        self.graph = graph
        self.named = {node.name: node for node in graph.nodes}

    def of_layer(self, name: str) -> list[onnx.NodeProto]:
        """The nodes of a layer in the order they run, the layer's own last; then what follows it is put in between."""
        node = self.named[name]
        before = [self.graph.nodes[self.graph.producer[read]] for read in node.input if read in self.graph.producer]
        pairs = [source for source in before if source.op_type == "DequantizeLinear"]
        return [*pairs, *self._behind(node), node]

    def _behind(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The activation, QuantizeLinear and DequantizeLinear behind a layer, as far as there are any."""
        found: list[onnx.NodeProto] = []
        while (reader := self._only_reader(node)) is not None:
            if reader.op_type not in (*_ACTIVATIONS, "QuantizeLinear") and node.op_type != "QuantizeLinear":
                break
            found.append(reader)
            if reader.op_type == "DequantizeLinear":
                break
            node = reader
        return found

    def _only_reader(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        readers = {index for index, _ in self.graph.readers.get(node.output[0], ())}
        if node.op_type != "QuantizeLinear" and (len(readers) != 1 or node.output[0] in self.graph.outputs):
            return None
        return self.graph.nodes[min(readers)] if readers else None


def _errors(
    graph: FloatGraph, feeds: Arrays, alone: Mapping[str, Sequence[onnx.NodeProto]]
) -> Iterator[tuple[str, float]]:
    for name, part in alone.items():
        nodes = _in_order(part)
        written = {output for node in nodes for output in node.output}
        read = [name for node in nodes for name in node.input if name and name not in written]
        given = [name for name in dict.fromkeys(read) if name not in graph.initializers]
        model = _model(graph, nodes, captured(graph, feeds, given))
        reference, deployed = (_run(model, options) for options in (session_options(), _default_options()))
        size = float(np.linalg.norm(reference)) or 1.0
        yield name, float(np.linalg.norm(deployed - reference)) / size


def _in_order(part: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The layer behind what dequantizes its inputs, and in front of what follows it."""
    layer = part[-1]
    before = [node for node in part[:-1] if node.op_type == "DequantizeLinear" and node.output[0] in layer.input]
    return [*before, layer, *[node for node in part[:-1] if node not in before]]


def captured(graph: FloatGraph, feeds: Arrays, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Return tensors of a quantized graph, by name, as its pairs say them."""
    found = {name: feeds[name] for name in names if name in feeds}
    others = [name for name in names if name not in found]
    if others:
        found |= open_nodes(graph, _nodes_for(graph, others), others, {}, types=_types(graph, others))(feeds)
    return found


def _types(graph: FloatGraph, names: Sequence[str]) -> dict[str, int]:
    """Element types of what QuantizeLinear nodes write."""
    model = WrittenModel(graph.model)
    kinds = {node.output[0]: kind for node, kind in model.pairs() if node.op_type == "QuantizeLinear"}
    return {name: kind.onnx_type for name in names if (kind := kinds.get(name)) is not None}


def _nodes_for(graph: FloatGraph, names: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that it takes to compute some tensors, in graph order."""
    wanted, found = set(names), []
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted |= set(node.input)
    return found[::-1]


def _model(graph: FloatGraph, nodes: Sequence[onnx.NodeProto], given: Arrays) -> tuple[onnx.ModelProto, Arrays]:
    value = onnx.helper.make_tensor_value_info
    inputs = [value(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), None) for name, array in given.items()]
    used = dict.fromkeys(name for node in nodes for name in node.input if name in graph.initializers)
    constants = [onnx.numpy_helper.from_array(graph.constant(name), name) for name in used]
    output = onnx.ValueInfoProto(name=nodes[-1].output[0])  # of float32, or float16
    part = onnx.helper.make_graph(list(nodes), "layer", inputs, [output], constants)
    model = onnx.ModelProto(ir_version=graph.model.ir_version, graph=part, opset_import=graph.model.opset_import)
    return model, given


def _default_options() -> ort.SessionOptions:
    return session_options(Numerics.DEPLOYED)


def _run(part: tuple[onnx.ModelProto, Arrays], options: ort.SessionOptions) -> NDArray[np.float64]:
    model, feeds = part
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(feeds))[0], np.float64)
