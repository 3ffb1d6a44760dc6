"""Which outputs are compared, and what their values are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.data.labels import class_axis
from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.inner_tensors import inner_candidates, names_said
from quant_core.model.signature import OutputRole, Signature

__all__ = [
    "ClassAxis",
    "Compared",
    "OutputPart",
    "check_classes",
    "class_count",
    "compared",
    "compared_of",
    "compared_outputs",
    "layers_compared",
    "probed",
    "with_states",
]

Array = NDArray[np.generic]


@dataclass(frozen=True)
class ClassAxis:
    """Where classes are in the compared outputs."""

    output: int = 0
    """Number of the output among those compared."""
    axis: int = 1
    """Its axis of classes, the axis of samples being the first."""
    probabilities: bool = False
    """Whether its values are probabilities, not logits."""
    known: bool = True
    """Whether the axis was found or said; KL and top-1 are not measured where it is not."""


@dataclass(frozen=True)
class OutputPart:
    """Channels of an output that are of one scale, beside others that are of another."""

    output: int
    """Number of the output among those compared."""
    axis: int
    """The axis of channels, that of the samples being the first."""
    start: int
    """The first channel."""
    stop: int | None
    """The place behind the last one; None where that is the end."""
    power: float = 1.0
    """Mean square of its values, which the loss of a layer weighs it by."""

    def of(self, array: Array) -> Array:
        """Return these channels of the output's values."""
        return array[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


@dataclass(frozen=True)
class Compared:
    """The outputs that quantized models are compared by."""

    names: tuple[str, ...]
    """Of the outputs, in the model's order."""
    classes: ClassAxis = ClassAxis()
    """Where classes are."""
    powers: tuple[float, ...] = (1.0,)
    """Mean square of each output's values: the loss of a layer weighs several by it, so that none drowns another."""
    parts: tuple[OutputPart, ...] = ()
    """Parts of outputs whose channels are of unlike scale."""

    def pieces(self, arrays: Sequence[Array]) -> Iterator[tuple[Array, float]]:
        """Yield the values that count alike, outputs or their parts, each with its mean square."""
        for number, (array, power) in enumerate(zip(arrays, self.powers, strict=True)):
            parts = [part for part in self.parts if part.output == number]
            yield from [(part.of(array), part.power) for part in parts] or [(array, power)]


def compared(graph: FloatGraph, output: int | str) -> Compared:
    """Return what a choice of outputs (index, names, `all`) stands for.

    Raises InputError for an output that is not there, or cannot be compared sample by sample.
    """
    return compared_of(graph, compared_outputs(graph, output))


def compared_of(graph: FloatGraph, names: Sequence[str]) -> Compared:
    """Return what some outputs, or tensors inside, are compared by."""
    signature = Signature.of(graph)
    roles = [signature.output(name) for name in names]
    return Compared(tuple(names), _classes(graph, roles), tuple(role.power for role in roles), _parts(roles))


def probed(graph: FloatGraph, output: int | str, loss: str) -> Compared:
    """Return what layers are ranked by: the compared outputs, and by `mse` the states they depend on at later steps.

    A probe sees single steps, in which what a layer does to a state shows nowhere else.
    """
    found, signature = compared(graph, output), Signature.of(graph)
    if loss != "mse":
        return found
    names = with_states(graph, found.names)
    more = tuple(signature.output(name).power for name in names[len(found.names) :])
    return replace(found, names=names, powers=(*found.powers, *more))


def _parts(roles: Sequence[OutputRole]) -> tuple[OutputPart, ...]:
    return tuple(
        OutputPart(number, role.channels, *ends, power)
        for number, role in enumerate(roles)
        if role.channels is not None
        for ends, power in zip(((0, role.split), (role.split, None)), role.part_powers, strict=True)
    )


def _classes(graph: FloatGraph, roles: Sequence[OutputRole]) -> ClassAxis:
    """The classes of the first output that has any: as the user says, or as probabilities, or logits, show it."""
    floats = [number for number, role in enumerate(roles) if _is_float(graph, role.name)]
    known = [number for number in floats if _shows_classes(graph, roles[number])]
    likeliest = sorted(known, key=lambda number: (not roles[number].said, not roles[number].probabilities))
    signature = Signature.of(graph)
    for number in [*likeliest, *floats]:
        shape, role = signature.sample_shape(graph, roles[number].name), roles[number]
        if shape is None or len(shape) > 1:
            return ClassAxis(
                number, class_axis(role, shape or (), leading=signature.leading), role.probabilities, number in known
            )
    return ClassAxis(known=False)


def _shows_classes(graph: FloatGraph, role: OutputRole) -> bool:
    """Return whether an output's axis of classes is known: found, said, or the only one beside the samples."""
    return role.classes is not None or len(Signature.of(graph).sample_shape(graph, role.name) or ()) == 2


def class_count(graph: FloatGraph, output: int | str) -> int | None:
    """Return how many classes the outputs that are compared have; None where that is not known."""
    found = compared(graph, output)
    if not found.classes.known:
        return None
    shape = Signature.of(graph).sample_shape(graph, found.names[found.classes.output]) or ()
    return shape[found.classes.axis] if found.classes.axis < len(shape) else None


def check_classes(graph: FloatGraph, output: int | str, option: str) -> None:
    """Raise InputError where an option needs the axis of classes, and none was found or said for what is compared."""
    outputs = compared(graph, output)
    if outputs.classes.known:
        return
    name = outputs.names[outputs.classes.output]
    shape = [size if size is not None else "any" for size in graph.shape(name) or ()]
    if len(shape) < 2:
        raise InputError(f"{option} needs classes, and output {name!r} has no axis for them: compare another output")
    raise InputError(
        f"{option} needs the axis of the classes of output {name!r} (shape [{', '.join(map(str, shape))}]), which does "
        f"not show from the model or its values: say it, with --classes {name}=AXIS"
    )


def _is_float(graph: FloatGraph, name: str) -> bool:
    return graph.element_type(name) in (
        *(onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16),
        onnx.TensorProto.UNDEFINED,
    )


def compared_outputs(graph: FloatGraph, output: int | str) -> tuple[str, ...]:
    """Names of the outputs a choice (index, names or `all`) stands for; raises InputError for no such output.

    `all` leaves out what holds no floats, or no value for each sample, where others do.
    """
    signature = Signature.of(graph)
    if output == "all":
        found = [name for name in graph.compared if _is_float(graph, name) and _why_not(graph, signature, name) == ""]
        if not found:
            found = [name for name in graph.outputs if _why_not(graph, signature, name) == ""]
        if not found:
            reasons = "; ".join(f"{name}: {_why_not(graph, signature, name)}" for name in graph.outputs)
            raise InputError(
                f"output: the model has none that can be compared sample by sample ({reasons}){_inside(graph)}"
            )
        return tuple(found)
    known = {*graph.compared, *graph.inside}
    said = names_said(output, known) if isinstance(output, str) else [output]
    names = {_comparable(graph, signature, _named(graph, one)) for one in said}
    return tuple(name for name in graph.compared if name in names)


def _comparable(graph: FloatGraph, signature: Signature, name: str) -> str:
    """Return an output's name; raises InputError for one that cannot be compared."""
    why = _why_not(graph, signature, name)
    if why:
        others = [one for one in graph.outputs if not _why_not(graph, signature, one)]
        way_out = f"; compare {', '.join(others)}" if others else _inside(graph)
        raise InputError(f"output {name!r} cannot be compared sample by sample: {why}{way_out}")
    return name


def _inside(graph: FloatGraph) -> str:
    """Return the way out where no output can be compared."""
    found = inner_candidates(graph)
    return f"; compare float tensors inside, in front of what does that: --output {','.join(found[:3]) or 'NAME'}"


def _named(graph: FloatGraph, output: int | str) -> str:
    if isinstance(output, str) and not output.isdecimal():
        if output in (*graph.compared, *graph.inside):
            return graph.inside.get(output, output)
    elif int(output) < len(graph.outputs):
        name = graph.outputs[int(output)]
        return graph.inside.get(name, name)
    raise InputError(f"output {output!r}: the model has {', '.join(f'{i}: {n}' for i, n in enumerate(graph.outputs))}")


def _why_not(graph: FloatGraph, signature: Signature, name: str) -> str:
    value = graph.values.get(name)
    if value is not None and value.type.WhichOneof("value") not in (None, "tensor_type"):
        return "it is a sequence or a map, no tensor"
    return signature.output(name).fails


def layers_compared(graph: FloatGraph, names: Sequence[str]) -> frozenset[str]:
    """Nodes that some compared output depends on, at the same step or a later one, by name."""
    return frozenset(_leading_to(graph, with_states(graph, names))[0])


def with_states(graph: FloatGraph, names: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs, and those that they depend on one step later or more: what states are fed from."""
    found, states = list(names), Signature.of(graph).states
    while True:
        wanted = _leading_to(graph, found)[1]
        more = [output for name, output in states.items() if name in wanted and output not in found]
        if not more:
            return tuple(found)
        found += dict.fromkeys(more)


def _leading_to(graph: FloatGraph, names: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the nodes and the tensors that some tensors are computed from, by name."""
    wanted, found = set(names), set()
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.output):
            found.add(node.name)
            wanted |= {*node.input, *outer_names(node)}
    return found, wanted
