"""Types by name: the plan a user has chosen, as it is written down, and as it is for a model.

    int8: ["/block3/*", "/head/Gemm"]      # a layer: activations and weight
    a8w4: ["/block4/conv/Conv"]
    int16: ["tensor:/block2/Add_output_0"] # a tensor: what it carries, for all readers

1. A precision (`a8w4`) is of layers. A type (`int8`) is of layers, whose activations and weight it is then, or of
   tensors: activations, weights, constant operands.
2. A name or pattern is looked up among the layers, and when no layer has it, among the tensors; `layer:` or
   `tensor:` before it says which. `op:Conv` means all layers of an operator.
3. A name that is there as it is written is no pattern. What a name says goes before what a pattern says; two
   names, or two patterns, must not say different things of one layer or tensor.
4. A layer that is not named reads named tensors in their type, and has its named weight's type; all else about it
   is wide. A layer that is named keeps its precision, behind a pair of its own where a tensor has another type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import onnx

from quant_core.errors import InputError, UnsupportedError
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import Role, weight_inputs
from quant_core.model.selection import OPERATOR, names_of_operator
from quant_core.model.topology import Topology
from quant_core.precision import ACTIVATION_TYPES, WEIGHT_TYPES, DataType, Precision, PrecisionPlan

__all__ = ["Assignment"]

Kind = Precision | DataType

_LAYER, _TENSOR = "layer:", "tensor:"


@dataclass(frozen=True)
class Assignment:
    """Which names and patterns get which type."""

    entries: tuple[tuple[Kind, tuple[str, ...]], ...]
    """(precision or type, names and patterns) in the order they are written."""

    @classmethod
    def of(cls, written: Mapping[str, Sequence[str]]) -> Assignment:
        """Read precisions and types from their written form; raises InputError for what is neither."""
        return cls(tuple((_kind(text), tuple(names)) for text, names in written.items()))

    @classmethod
    def of_plan(cls, plan: PrecisionPlan) -> Assignment:
        """Return what a plan says, name by name."""
        layers = tuple((precision, (_LAYER + name,)) for name, precision in plan.layers)
        return cls(layers + tuple((kind, (_TENSOR + name,)) for name, kind in plan.tensors))

    @property
    def first_opset(self) -> int:
        """The first opset whose standard pairs take every integer type that is named; 0 without any."""
        kinds = [kind.weights if isinstance(kind, Precision) else kind for kind, _ in self.entries]
        return max((kind.first_opset for kind in kinds if not kind.is_float), default=0)

    def plan(self, graph: FloatGraph, layers: Sequence[Layer], wide: Precision) -> PrecisionPlan:
        """The plan for a prepared model.

        Raises InputError for a name or pattern that nothing has, for what has two types, and for a tensor that
        carries none; UnsupportedError for a mix of types that no layer can compute in.
        """
        return _Resolution(self, graph, layers, wide).plan()


def _kind(text: str) -> Kind:
    if str(text).upper() in DataType.__members__:
        return DataType.parse(text)
    try:
        return Precision.parse(text)
    except InputError as error:
        names = ", ".join(str(kind) for kind in DataType if kind is not DataType.INT32)
        raise InputError(f"{text!r} is neither a type ({names}) nor a precision such as a8w8") from error


@dataclass(frozen=True)
class _Said:
    """What one entry says of one layer or tensor."""

    kind: Kind
    written: str
    by_name: bool


class _Resolution:
    """Looks the names of an assignment up in one model."""

    def __init__(self, assignment: Assignment, graph: FloatGraph, layers: Sequence[Layer], wide: Precision) -> None:
        self.assignment, self.graph, self.layers, self.wide = assignment, graph, layers, wide
        self.topology = Topology.of(graph, layers)
        self.weights = {weight: layer for layer in layers for weight in layer.weights}
        self.tensors = tuple(dict.fromkeys(_typed_tensors(self.topology)))
        self.of_layers: dict[str, _Said] = {}
        self.of_tensors: dict[str, _Said] = {}

    def plan(self) -> PrecisionPlan:
        for kind, names in self.assignment.entries:
            for written in names:
                self.look_up(kind, written)
        named = {name: self.tensor_type(name) for name in self.tensors if name in self.of_tensors}
        chosen = tuple((layer.name, self.precision(layer, named)) for layer in self.layers)
        carried = tuple((name, kind) for name, kind in named.items() if name not in self.weights)
        return PrecisionPlan(chosen, carried)

    def look_up(self, kind: Kind, written: str) -> None:
        """Note down what an entry says of each layer or tensor it means."""
        if written.startswith(OPERATOR):
            operators = {layer.name: layer.op for layer in self.layers}
            for name in names_of_operator(operators, written, str(kind), "layer"):
                _note(self.of_layers, name, _Said(kind, written, by_name=False))
            return
        bare = written.removeprefix(_LAYER).removeprefix(_TENSOR)
        names = [] if written.startswith(_TENSOR) else _matching(bare, [layer.name for layer in self.layers])
        said = self.of_layers
        if not names and not written.startswith(_LAYER):
            names, said = _matching(bare, self.tensors), self.of_tensors
            if names and isinstance(kind, Precision):
                raise InputError(f"{written!r} is a tensor: it has a type, such as int8, and no precision ({kind})")
        if not names:
            raise InputError(self.why_not(written, bare))
        for name in names:
            _note(said, name, _Said(kind, written, bare == name))

    def why_not(self, written: str, bare: str) -> str:
        """Return why a name or pattern means nothing."""
        layers = [layer.name for layer in self.layers]
        if written.startswith(_LAYER):
            return f"{written!r}: no layer has that name{_meant(bare, layers)}"
        if bare in self.topology.fused:
            reader = self.graph.nodes[self.graph.readers[bare][0][0]]
            return f"{written!r} carries no type: runtimes fuse it with {reader.op_type}; name {reader.output[0]!r}"
        if any(role is Role.LAYER and bare in node.input[2:3] for node, role in self.nodes()):
            return f"{written!r} is a bias: it is int32 at the scale of input times weight, whatever these are"
        if bare in self.graph.producer or bare in self.graph.initializers or bare in self.graph.inputs:
            return f"{written!r} carries no type: nothing quantized reads or writes it"
        return (
            f"{written!r} is neither a layer nor a tensor of the prepared model{_meant(bare, [*layers, *self.tensors])}"
        )

    def nodes(self) -> Iterable[tuple[onnx.NodeProto, Role]]:
        return zip(self.graph.nodes, self.topology.roles, strict=True)

    def tensor_type(self, name: str) -> DataType:
        said = self.of_tensors[name]
        assert isinstance(said.kind, DataType)  # a precision has been refused
        allowed = WEIGHT_TYPES if name in self.weights else ACTIVATION_TYPES
        if said.kind not in allowed and not said.kind.is_float:
            role = "a weight" if name in self.weights else "a tensor"
            raise InputError(f"{name!r} cannot be {said.kind}: {role} may be {_listed(allowed)} or a float type")
        return said.kind

    def precision(self, layer: Layer, named: Mapping[str, DataType]) -> Precision:
        """The layer's precision: what is said of it, else of what it reads."""
        said = self.of_layers.get(layer.name)
        if said is not None:
            precision = said.kind if isinstance(said.kind, Precision) else self.both(layer, said.kind)
            for name in layer.weights:
                if named.get(name, precision.weights) is not precision.weights:
                    raise InputError(f"layer {layer.name!r} is named {precision} and its weight {name!r} {named[name]}")
            return precision
        weight = _weight_type(layer, named)
        read = {named.get(name) for name in layer.activations}
        activations = read.pop() if len(read) == 1 else None
        chosen = Precision(activations or self.wide.activations, weight or self.wide.weights)
        if chosen.weights.is_float and chosen.activations is not chosen.weights:
            raise UnsupportedError(
                f"layer {layer.name!r} would read {chosen.activations} and have a weight in {chosen.weights}: "
                "name the layer too, as a precision such as float16 or a8w8"
            )
        return chosen

    def both(self, layer: Layer, kind: DataType) -> Precision:
        """A type as the precision of a layer."""
        if kind not in ACTIVATION_TYPES and not kind.is_float:
            raise InputError(f"layer {layer.name!r} cannot be {kind} on both sides: write a precision such as a8w4")
        return Precision(kind, kind)


def _weight_type(layer: Layer, named: Mapping[str, DataType]) -> DataType | None:
    """Return the type that is named for a layer's weights; raises InputError where there are two."""
    kinds = list(dict.fromkeys(named[name] for name in layer.weights if name in named))
    if len(kinds) > 1:
        raise InputError(f"layer {layer.name!r} has weights of one type, and they are named {_listed(kinds)}")
    return kinds[0] if kinds else None


def _typed_tensors(topology: Topology) -> Iterator[str]:
    """Tensors that may carry a type and that a quantized operator has to do with, in graph order."""
    graph = topology.graph
    for index in range(len(graph.nodes)):
        constants = [name for name in _operands(topology, index) if graph.is_float_constant(name)]
        yield from (name for name in topology.touched(index) if name in topology.quantizable or name in constants)


def _operands(topology: Topology, index: int) -> Sequence[str]:
    """Inputs that have a type of their own when they are constants: a bias follows from the others."""
    node = topology.graph.nodes[index]
    if topology.roles[index] in (Role.LAYER, Role.RECURRENT):
        return [node.input[at] for at in weight_inputs(node.op_type)]
    return list(node.input) if topology.takes_constants(index) else []


def _matching(written: str, names: Sequence[str]) -> list[str]:
    """The name itself, or all that the pattern matches."""
    return [written] if written in names else [name for name in names if fnmatchcase(name, written)]


def _meant(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "; `narrowcast inspect` lists them"


def _note(said: dict[str, _Said], name: str, new: _Said) -> None:
    before = said.get(name)
    if before is None or (new.by_name and not before.by_name):
        said[name] = new
    elif before.kind != new.kind and new.by_name == before.by_name:
        raise InputError(f"{name!r} is named twice: {before.kind} by {before.written!r}, {new.kind} by {new.written!r}")


def _listed(kinds: Sequence[DataType]) -> str:
    return ", ".join(str(kind) for kind in kinds)
