"""Writes the graph of a plan: the float nodes with a Q/DQ pair on every edge that carries a type.

A pair of a floating-point type is two Casts, to it and back, and its weights are stored in it behind one: values
are rounded to the type, then multiplied and added up in float32 (biases too), as hardware with a wider accumulator
does. So the numbers are the same on every machine, whereas ONNX Runtime has float16 kernels on some CPUs and
bfloat16 ones on none.

Names say content: a node or constant of one name is the same in every plan of the same Quantizer, so two
plans differ exactly where their names do, and what is built for one serves the next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.model.edge_types import EdgeTypes, edge_types, retyped
from quant_core.model.opset import pair_domain
from quant_core.precision import DataType, PrecisionPlan
from quant_core.quantization.plan_graph.layer_forms import LayerForm, node_in_form
from quant_core.quantization.plan_graph.made_names import mark_of
from quant_core.quantization.plan_graph.plan_pass import PlanPass, RewritingPass
from quant_core.quantization.quantizer import Quantizer

__all__ = ["PlanWriter", "QuantizedGraph"]


@dataclass(frozen=True)
class QuantizedGraph:
    """The nodes of a plan's model, in topological order."""

    nodes: tuple[onnx.NodeProto, ...]
    """Float nodes and Q/DQ pairs."""
    units: tuple[int, ...]
    """For each node, the index of the float node it was written for: ascending."""
    types: EdgeTypes
    """Of its edges."""
    tensors: tuple[tuple[str, DataType], ...]
    """Of the plan: tensors whose type it says itself."""
    consumers: Mapping[str, Sequence[int]]
    """Float nodes that read what is written once, by its name, ascending: it is written for the first."""

    @cached_property
    def shared(self) -> Mapping[int, Sequence[str]]:
        """Names of what is written for each float node and read by others too."""
        found: dict[int, list[str]] = {}
        for name, units in self.consumers.items():
            found.setdefault(units[0], []).append(name)
        return found


@dataclass
class PlanWriter:
    """Writes plans over one Quantizer.

    With `folded`, weights appear as the float values their codes stand for, and a pair that repeats the one
    before a mover is left out: the numbers are those of the full graph, bit for bit, with less to compute.

    With `unfused` an activation that is fused into the node before it (Relu, Clip) has the pair of its result in front
    of it too. That changes no number, because such an activation is monotone and 0 has a code; and integer operators
    end where a pair is.
    """

    quantizer: Quantizer
    """Where scales and codes come from."""
    folded: bool
    """Whether to write the graph for simulation instead of the one that is shipped."""
    unrounded: frozenset[DataType] = frozenset()
    """Activation types whose pairs are left out as well: an approximation, for types so fine that it makes none."""
    unfused: bool = False
    """Whether activations have a pair in front."""
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    """Every constant any plan written so far refers to, by name, beside those of the float graph."""
    _nodes: dict[tuple[object, ...], onnx.NodeProto] = field(default_factory=dict)

    def write(self, plan: PrecisionPlan) -> QuantizedGraph:
        """The graph of a plan."""
        config = self.quantizer.config
        types = edge_types(self.quantizer.topology, plan, config.wide, config.dual_pairs, config.others_type)
        writing = PlanPass(self, plan, types)
        for index in range(len(self.quantizer.graph.nodes)):
            writing.write(index)
        return QuantizedGraph(tuple(writing.nodes), tuple(writing.units), types, plan.tensors, writing.consumers)

    def rewritten(
        self, before: QuantizedGraph, plan: PrecisionPlan, layers: Collection[str]
    ) -> dict[int, list[onnx.NodeProto]]:
        """The nodes of a plan by the float node they are written for, ascending, where they may differ from `before`.

        That is the graph of a plan that differs in `layers` and in the tensors it names. The work is that of those and
        what is around them.
        """
        config = self.quantizer.config
        tensors = {name for name, _ in {*before.tensors} ^ {*plan.tensors}}
        types, found = retyped(
            self.quantizer.topology,
            before.types,
            plan,
            config.wide,
            config.dual_pairs,
            config.others_type,
            layers,
            tensors,
        )
        missed = found
        writing = PlanPass(self, plan, types)
        while missed:
            found = _with_consumers(before, found | missed)
            writing = RewritingPass(self, plan, types, before, found)
            for index in sorted(found):
                writing.write(index)
            missed = writing.missed
        return _by_unit(writing.nodes, writing.units)

    def node(self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
        """A Q, DQ, Cast, Gather or Identity node; the same object whenever the arguments are the same."""
        key = (op_type, *inputs, *outputs)
        if key not in self._nodes:
            domain = "" if op_type in ("Cast", "Identity", "Gather") else pair_domain(self.quantizer.graph.model)
            self._nodes[key] = onnx.helper.make_node(
                op_type, inputs, outputs, name=self.made(f"{outputs[0]}/{op_type}"), domain=domain, **attributes
            )
        return self._nodes[key]

    def made(self, name: str) -> str:
        """Return a name that a plan makes, which none of the float graph's is."""
        return name + self._mark

    @cached_property
    def _mark(self) -> str:
        """The end of made names; empty unless the float graph has a name that a plan might make."""
        return mark_of(self.quantizer.graph)

    def rewired(
        self, index: int, inputs: Sequence[str], outputs: Sequence[str], form: LayerForm = LayerForm.PLAIN
    ) -> onnx.NodeProto:
        """A float node reading and writing tensors of other names; the same object for the same names.

        The name of a layer's weight tells its `form`.
        """
        key = (index, *inputs, "->", *outputs)
        if key not in self._nodes:
            node = onnx.NodeProto()
            node.CopyFrom(self.quantizer.graph.nodes[index])
            del node.input[:], node.output[:]
            node.input.extend(inputs)
            node.output.extend(outputs)
            node_in_form(node, form)
            self._nodes[key] = node
        return self._nodes[key]


def _by_unit(nodes: Sequence[onnx.NodeProto], units: Sequence[int]) -> dict[int, list[onnx.NodeProto]]:
    found: dict[int, list[onnx.NodeProto]] = {}
    for node, unit in zip(nodes, units, strict=True):
        found.setdefault(unit, []).append(node)
    return found


def _with_consumers(graph: QuantizedGraph, units: set[int]) -> set[int]:
    """Add the nodes that read what was written for one of these: it may be written for another now, or not at all."""
    found, waiting = set(units), list(units)
    while waiting:
        more = {unit for name in graph.shared.get(waiting.pop(), ()) for unit in graph.consumers[name]} - found
        found |= more
        waiting.extend(more)
    return found
