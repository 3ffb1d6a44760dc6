"""What belongs to a layer in a written plan: cut out, it is a model that can be timed.

1. Of its inputs, a layer begins with the codes where the tensor's pair belongs to its writer: to another
   layer, or to a mover, which runtimes run on codes. Any other pair is there for the sake of the layer: it begins
   before it.
2. It ends with the codes of what it writes (after the activation that is fused into it), in each type that is read.
3. Where nothing has codes it begins and ends with float values, the Casts of a floating-point type in front.
So a runtime can do to the section what it does in the whole model: replace it by one integer kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import onnx

from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import Role
from quant_core.model.sessions import Constants
from quant_core.model.topology import Topology
from quant_core.quantization.plan_graph.qdq import QuantizedGraph

__all__ = ["Section", "WrittenPlan"]


@dataclass(frozen=True)
class Section:
    """Some nodes of a written plan."""

    nodes: tuple[onnx.NodeProto, ...]
    """In topological order."""
    inputs: tuple[str, ...]
    """Tensors they read and do not write, constants left out."""
    outputs: tuple[str, ...]
    """What comes out of them."""


@dataclass(frozen=True)
class WrittenPlan:
    """A written plan, indexed."""

    graph: FloatGraph
    """The float model."""
    topology: Topology
    """Roles of its nodes."""
    written: QuantizedGraph
    """The nodes of the plan."""
    constants: Constants
    """Their constants, beside those of the float graph."""
    runtime: str = "onnxruntime"
    """Name of the runtime that it is opened in."""

    @cached_property
    def _producer(self) -> dict[str, int]:
        return {name: at for at, node in enumerate(self.written.nodes) for name in node.output if name}

    @cached_property
    def _readers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for at, node in enumerate(self.written.nodes):
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(at)
        return found

    @cached_property
    def _float_index(self) -> dict[int, int]:
        """Index in the float graph of each written node that is one of its nodes; pairs have none."""
        named = {node.name: index for index, node in enumerate(self.graph.nodes)}
        return {at: named[node.name] for at, node in enumerate(self.written.nodes) if node.name in named}

    @cached_property
    def _place(self) -> dict[int, int]:
        return {index: at for at, index in self._float_index.items()}

    def section(self, layer: Layer) -> Section:
        """Return the nodes and tensors that belong to a layer."""
        kept: set[int] = set()
        outputs: list[str] = []
        for index in layer.nodes:
            last = self._with_activation(index)
            kept.update(self._place[one] for one in {index, last})
            kept.update(at for name in self.written.nodes[self._place[index]].input for at in self._before(name))
            outputs += self._after(self.written.nodes[self._place[last]].output, kept)
        nodes = tuple(self.written.nodes[at] for at in sorted(kept))
        produced = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in node.input if name)
        inputs = tuple(name for name in read if name not in produced and not self._is_constant(name))
        return Section(nodes, inputs, tuple(dict.fromkeys(outputs)))

    def _with_activation(self, index: int) -> int:
        """The last node of what runtimes run as one."""
        written = self.graph.nodes[index].output[0]
        return self.graph.readers[written][0][0] if written in self.topology.fused else index

    def _before(self, name: str) -> list[int]:
        """Places of the pair in front of an input, or of its second half alone (rule 1)."""
        end = self._producer.get(name)
        if end is None or end in self._float_index:
            return []
        begin = self._producer.get(self.written.nodes[end].input[0])
        if begin is None:
            return [end]  # of a constant
        in_codes = self.written.nodes[begin].op_type == "QuantizeLinear"
        return [end] if in_codes and self._has_owner(self.written.nodes[begin].input[0]) else [begin, end]

    def _has_owner(self, raw: str) -> bool:
        index = self._float_index.get(self._producer.get(raw, -1))
        if index is None:
            return False
        read = self.graph.nodes[index].input[0] if self.graph.nodes[index].input else ""
        layer = self.graph.producer[read] if read in self.topology.fused else index
        return layer in self.topology.layer_of or self.topology.roles[layer] is Role.MOVER

    def _after(self, outputs: Iterable[str], kept: set[int]) -> list[str]:
        """Names of what a node's outputs end as (rule 2); the nodes on the way there are kept."""
        ends = []
        for name in filter(None, outputs):
            readers = self._readers.get(name, [])
            pairs = [at for at in readers if self.written.nodes[at].op_type == "QuantizeLinear"]
            kept.update(pairs)
            ends += [self.written.nodes[at].output[0] for at in pairs]
            if not pairs or name in self.graph.outputs or len(pairs) < len(readers):
                ends.append(name)
        return ends

    def element_type(self, name: str) -> int:
        """The `onnx.TensorProto.DataType` of a tensor of the plan."""
        at = self._producer.get(name, -1)
        if at in self._float_index or at < 0:
            return self.graph.element_type(name) or int(onnx.TensorProto.FLOAT)
        node = self.written.nodes[at]
        if node.op_type == "QuantizeLinear":
            return int(onnx.helper.np_dtype_to_tensor_dtype(self.constants[node.input[2]].dtype))
        return int(onnx.TensorProto.FLOAT)

    def _is_constant(self, name: str) -> bool:
        return name in self.constants or name in self.graph.initializers
