"""One pass over the float graph for one plan: its nodes, with a pair on every edge that carries a type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from quant_core.model.edge_types import EdgeTypes
from quant_core.model.operators import TABLE_OP, Role, moving_inputs, weight_inputs
from quant_core.numerics import dequantize
from quant_core.precision import DataType, Precision, PrecisionPlan
from quant_core.quantization.plan_graph.float_layers import bias_in_codes
from quant_core.quantization.plan_graph.layer_forms import LayerForm, in_form, layer_form, unsigned
from quant_core.quantization.plan_graph.pair_writer import PairWriter, edge_mark
from quant_core.quantization.plan_graph.table_rows import rows_of_codes, takes_rows_of_codes

__all__ = ["PlanPass", "RewritingPass"]

if TYPE_CHECKING:
    from quant_core.quantization.plan_graph.qdq import PlanWriter, QuantizedGraph


_FEWEST_IN_CODES = 32
"""Values from which on codes of 16 bits and their DequantizeLinear take fewer bytes than floats."""


class PlanPass(PairWriter):
    """One pass over the graph for one plan: says what each node reads, and has it written."""

    def __init__(self, writer: PlanWriter, plan: PrecisionPlan, types: EdgeTypes) -> None:
        super().__init__(writer)
        self.topology = writer.quantizer.topology
        self.precisions = dict(plan.layers)
        self.named = dict(plan.tensors)
        self.types = types

    def write(self, index: int) -> None:
        """Write a float node and what it reads that is not written yet."""
        self.unit = index
        node = self.graph.nodes[index]
        if self.is_table() and self.looks_up_codes():
            for row in self.rows():
                self.append(row)
        else:
            inputs = [self.input(position, name) for position, name in enumerate(node.input)]
            if self.stays_float_behind_a_pair():
                inputs = self.with_bias_in_codes(inputs)
            outputs = [self.raw(name) for name in node.output]
            self.append(self.writer.rewired(self.unit, inputs, outputs, self.form()))
        for name in node.output:
            if name in self.graph.named_outside and name in self.types.base:
                self.carried(name)

    def raw(self, name: str) -> str:
        """The name a producer writes a tensor under: its own, unless that is kept for what the tensor carries."""
        return (
            self.writer.made(f"{name}/float") if name in self.graph.named_outside and name in self.types.base else name
        )

    def looks_up_codes(self) -> bool:
        """Return whether the node reads codes of a table, and what it gives is dequantized."""
        kind = self.precision().weights
        return not self.writer.folded and takes_rows_of_codes(self.graph, kind, self.quantizer.runtime)

    def input(self, position: int, name: str) -> str:
        """The name a node reads at a position, once everything it needs is written."""
        role = self.topology.roles[self.unit]
        if self.graph.is_float_constant(name) and (role in (Role.LAYER, Role.RECURRENT) or self.is_table()):
            if position in weight_inputs(self.graph.nodes[self.unit].op_type):
                return self.layer_weight(position, name)
            return self.layer_bias(name) if role is Role.LAYER and position == 2 else name
        if self.graph.is_float_constant(name) and self.topology.takes_constants(self.unit):
            return self.operand(name)
        if self.writer.unfused and position == 0 and name in self.topology.fused:
            return self.before_activation(name)
        base = self.types.base.get(name)
        carried = name if base is None else self.carried(name)
        wanted = self.types.demand.get((self.unit, position))
        return carried if wanted in (None, base, DataType.FLOAT32) else self.pair(carried, name, wanted)

    def before_activation(self, name: str) -> str:
        """A tensor in front of a fused activation, through the pair of what comes out behind."""
        result = name
        while result in self.topology.fused:
            result = self.graph.nodes[self.graph.readers[result][0][0]].output[0]
        dtype = self.types.base.get(result)
        if dtype is None or dtype.is_float:
            return name
        return self.pair(name, result, dtype, self.writer.made(f"{name}/{edge_mark(dtype)}"))

    def carried(self, name: str) -> str:
        """The tensor with the type it carries."""
        if self.writer.folded and self.repeats(name):
            return self.raw(name)
        final = name if name in self.graph.named_outside else None
        return self.pair(self.raw(name), name, self.types.base[name], final)

    def repeats(self, name: str) -> bool:
        """Return whether a pair would find every value already on its grid: a mover wrote it from the same type."""
        source = self.graph.producer.get(name)
        if source is None or self.topology.roles[source] is not Role.MOVER or name in self.graph.named_outside:
            return False
        node = self.graph.nodes[source]
        if node.op_type in ("Clip", "Pad"):
            return False  # bounds and pad values need not lie on the grid
        moved = [node.input[position] for position in moving_inputs(node.op_type, len(node.input))]
        return all(self.types.base.get(tensor) is not None for tensor in moved) and all(
            self.types.demand.get((source, position)) is self.types.base[name] for position in range(len(moved))
        )

    def operand(self, name: str) -> str:
        """A constant operand of a computation, in its activation type; a mask of what no type holds as it is."""
        layer = self.topology.layer_of.get(self.unit, "")
        dtype = self.named.get(name, self.operand_type(name, layer))
        largest = (dtype if dtype.is_float else DataType.FLOAT32).largest_float
        if not (np.abs(np.asarray(self.graph.constant(name))) <= largest).all():
            return name
        if dtype.is_float:
            return self.rounded(name, dtype)
        codes, qparams = self.quantizer.constant(name, dtype)
        with np.errstate(over="ignore"):
            decoded = dequantize(codes, qparams)
        if not np.isfinite(decoded).all():  # a mask of the lowest float32: its code times its scale is -inf
            return name
        return self.stored(self.writer.made(f"{name}/{edge_mark(dtype)}"), codes, qparams, None)

    def operand_type(self, name: str, layer: str) -> DataType:
        """The type of a constant operand that a plan does not name; where others stay float, small ones do, too."""
        if layer in self.precisions:
            return self.precisions[layer].activations
        config = self.quantizer.config
        is_small = np.size(self.graph.constant(name)) < _FEWEST_IN_CODES
        return config.others_type if is_small else config.wide.activations

    def layer_weight(self, position: int, name: str) -> str:
        """A layer's weight in the precision of the layer."""
        layer, precision = self.topology.layer_of[self.unit], self.precision()
        if precision.is_float:
            return self.rounded(name, precision.weights)
        if precision.is_weight_only and (read := self.reads()) is not None and not read.is_float:
            precision = precision.reading(read)  # another's pair, with which the layer may be fused
        form = self.form() if position == 1 else LayerForm.PLAIN
        weight = in_form(self.quantizer.weight(layer, precision, name), form)
        if self.is_stored_unsigned(layer, precision):
            weight = unsigned(weight)
        result = self.writer.made(f"{name}/{precision}{form.value}")
        if self.quantizer.has_a_copy(self.unit, layer):
            result = f"{result}/{self.graph.nodes[self.unit].name}"
        return self.stored(result, weight.codes, weight.qparams, weight.axis)

    def layer_bias(self, name: str) -> str:
        """A layer's bias in the precision of the layer."""
        layer, precision = self.topology.layer_of[self.unit], self.precision()
        if not self.quantizer.quantizes_bias(self.unit, layer, precision):
            return self.float_bias(name, layer, precision)
        bias = self.quantizer.bias(self.unit, layer, precision)
        result = self.writer.made(f"{self.graph.nodes[self.unit].name}/bias/{precision}")
        return self.stored(
            result, bias.codes, bias.qparams, bias.axis, says_zero=self.quantizer.config.biases != "small"
        )

    def float_bias(self, name: str, layer: str, precision: Precision) -> str:
        """A bias that stays float, with what is to make up for rounded weights."""
        corrected = self.quantizer.corrected_bias(self.unit, layer, precision)
        half = None if precision.is_float else self.quantizer.half_bias(self.unit, corrected)
        result = self.writer.made(f"{self.graph.nodes[self.unit].name}/bias/{precision}")
        if half is not None and not self.writer.folded:
            if not self.is_written(result):
                self.writer.constants[f"{result}/rounded"] = half
                self.cast_back(f"{result}/rounded", result)
            return result
        values = corrected if half is None else half.astype(np.float32)
        if values is None:
            return name
        self.writer.constants[result] = values
        return result

    def stays_float_behind_a_pair(self) -> bool:
        """Return whether the node being written computes in float what comes out of a pair, where that needs a form."""
        role, read = self.topology.roles[self.unit], self.reads()
        if not self.quantizer.runtime.rounds_float_weights or read is None or read.is_float:
            return False
        return role is not Role.LAYER or self.precision().is_float

    def with_bias_in_codes(self, inputs: list[str]) -> list[str]:
        """Return what the node being written reads, its bias in codes: ONNX Runtime then leaves its weight as it is."""
        node = self.graph.nodes[self.unit]
        found = bias_in_codes(self.graph, node)
        if found is None:
            return inputs
        return [*inputs[:2], self.stored(self.writer.made(f"{node.name}/bias/float32"), *found, None)]

    def form(self) -> LayerForm:
        """Return how the node being written has its weight."""
        if self.topology.roles[self.unit] is not Role.LAYER or not self.quantizer.runtime.keeps_matmuls_apart:
            return LayerForm.PLAIN
        return layer_form(self.graph, self.unit, self.precision().weights, self.reads())

    def is_table(self) -> bool:
        """Return whether the node being written looks rows up in a layer's table."""
        return self.graph.nodes[self.unit].op_type == TABLE_OP and self.unit in self.topology.layer_of

    def rows(self) -> list[onnx.NodeProto]:
        """The nodes that look rows up in the codes of a table."""
        node, layer, precision = self.graph.nodes[self.unit], self.topology.layer_of[self.unit], self.precision()
        weight = self.quantizer.weight(layer, precision)
        if self.is_stored_unsigned(layer, precision):  # for a product with the same weight
            weight = unsigned(weight)
        table = self.writer.made(f"{node.input[0]}/{precision}")
        return rows_of_codes(self.writer, self.unit, weight, table, self.raw(node.output[0]))

    def precision(self) -> Precision:
        """Return the precision of the layer being written."""
        return self.precisions.get(self.topology.layer_of[self.unit], self.quantizer.config.wide)

    def reads(self) -> DataType | None:
        """Return the type that the first input of the node being written comes in; None for float32.

        It may have one where the tensor itself stays float: the node then has a pair of its own in front.
        """
        base = self.types.base.get(self.graph.nodes[self.unit].input[0])
        wanted = self.types.demand.get((self.unit, 0))
        return base if wanted in (None, DataType.FLOAT32) else wanted

    def is_stored_unsigned(self, layer: str, precision: Precision) -> bool:
        """Return whether the layer's int8 weight is written as uint8, for the sake of its sums.

        The integer operators of int8 activations take no other weights than int8.
        """
        integer_only = self.writer.unfused and precision.activations.signed
        return not self.writer.folded and not integer_only and self.quantizer.is_stored_unsigned(layer, precision)


class RewritingPass(PlanPass):
    """Writes some nodes of a graph, with all others as they were written before."""

    def __init__(
        self, writer: PlanWriter, plan: PrecisionPlan, types: EdgeTypes, before: QuantizedGraph, units: set[int]
    ) -> None:
        super().__init__(writer, plan, types)
        self.before = before
        self.rewritten = units
        self.missed: set[int] = set()
        """Nodes that would write a second time what one of these now writes before them."""

    def is_written(self, result: str) -> bool:
        """Return whether what is written once has been, now or in the graph from before; if not, it is now."""
        first = self.before.consumers.get(result, (self.unit,))[0]
        if first not in self.rewritten and first > self.unit:
            self.missed.add(first)
        return super().is_written(result) or (first not in self.rewritten and first < self.unit)
