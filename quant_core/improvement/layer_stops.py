"""Where a walk through the float and the quantized model stops: in front of each layer that unfolds into a product."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx

from quant_core.improvement.calibrated_walk import Stop
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.numerics import dequantize
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter, QuantizedGraph
from quant_core.quantization.rounding.unfolding import Unfolding, unfolding_of

__all__ = ["LayerStop", "layer_stops"]


@dataclass(frozen=True)
class LayerStop:
    """Where the walk stops for a layer."""

    unfolding: Unfolding
    """The layer as a product of matrices."""
    precision: Precision
    """The precision that the layer has."""
    index: int
    """Its node in the float model."""
    weight: str
    """Name under which the quantized model's node has its weight."""
    bias: str | None
    """Name under which it has its bias, if that may be chosen."""
    reads: str
    """What the node reads in the quantized model."""
    added: str | None
    """The other operand of the Add that alone reads what the layer puts out, where that is known by then."""
    stop: Stop
    """The place."""

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.unfolding.layer.name

    def put_into(self, writer: PlanWriter) -> None:
        """Give the quantized model the weight and the bias that its quantizer has now."""
        weight = writer.quantizer.weight(self.name, self.precision)
        writer.constants[self.weight] = dequantize(weight.codes, weight.qparams, weight.axis)
        if self.bias is not None:
            writer.constants[self.bias] = writer.quantizer.bias_values(self.index, self.name, self.precision)


def layer_stops(
    writer: PlanWriter, layers: Sequence[Layer], plan: PrecisionPlan, widest: int
) -> tuple[list[LayerStop], Sequence[onnx.NodeProto]]:
    """Return where to stop, in graph order, and the nodes of the model of a plan.

    There is no stop for layers of several nodes, since what the later ones read is not known at the first, nor for
    those of more than `widest` inputs.
    """
    written, precisions = writer.write(plan), dict(plan.layers)
    places = _places(writer.quantizer.graph, written)
    unfolded = (unfolding_of(writer.quantizer.graph, layer) for layer in layers if len(layer.nodes) == 1)
    fitting = [one for one in unfolded if one is not None and one.width <= widest]
    fitting.sort(key=lambda one: one.layer.nodes[0])
    stops = [_stop(writer, one, precisions[one.layer.name], written, places[one.layer.nodes[0]]) for one in fitting]
    return stops, written.nodes


def _places(graph: FloatGraph, written: QuantizedGraph) -> dict[int, int]:
    """Return the place of each node of the float graph among the nodes of the quantized one."""
    pairs = enumerate(zip(written.nodes, written.units, strict=True))
    return {unit: at for at, (node, unit) in pairs if node.name == graph.nodes[unit].name}


def _stop(
    writer: PlanWriter, unfolding: Unfolding, precision: Precision, written: QuantizedGraph, place: int
) -> LayerStop:
    graph, index, node = writer.quantizer.graph, unfolding.layer.nodes[0], written.nodes[place]
    bias = _own_bias(writer, index, node, precision)
    added = _added(graph, index, {name for earlier in written.nodes[:place] for name in earlier.output})
    known = [] if added is None else [added]
    stop = Stop(place, index + 1, frozenset([node.input[0], *known]), frozenset([graph.nodes[index].output[0], *known]))
    return LayerStop(unfolding, precision, index, node.input[1], bias, node.input[0], added, stop)


def _own_bias(writer: PlanWriter, index: int, node: onnx.NodeProto, precision: Precision) -> str | None:
    """The name of a node's bias, which from now on no other node reads; None without one that may be chosen."""
    quantizer, layer = writer.quantizer, writer.quantizer.topology.layer_of[index]
    if quantizer.bias_name(index) is None:
        return None
    name = writer.made(f"{quantizer.graph.nodes[index].name}/bias/{precision}")
    if node.input[2] != name:  # a float bias that stays as it is
        node.input[2] = name
        writer.constants[name] = quantizer.bias_values(index, layer, precision)
    return name


def _added(graph: FloatGraph, index: int, before: Collection[str]) -> str | None:
    """The tensor that is added to what a node puts out and nothing else reads, if both models have it `before`.

    A bias may be added first.
    """
    output = graph.nodes[index].output[0]
    readers = graph.readers.get(output, ())
    if len(readers) != 1 or output in graph.outputs or graph.nodes[readers[0][0]].op_type != "Add":
        return None
    others = [name for name in graph.nodes[readers[0][0]].input if name != output]
    if len(others) == 1 and graph.is_float_constant(others[0]):
        return _added(graph, readers[0][0], before)
    if len(others) != 1 or others[0] not in before or graph.producer.get(others[0], index) >= index:
        return None
    return others[0] if graph.shape(others[0]) == graph.shape(output) else None
