"""Which inputs are states: fed, at each step of a sequence, with what an output gave at the step before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import onnx

from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph
from quant_core.model.signature import Signature, axes_said

__all__ = ["likely_states", "signature_said", "states_said"]


def signature_said(
    graph: FloatGraph, sample_axis: Sequence[str], classes: Sequence[str], states: Sequence[str]
) -> Signature:
    """Return what declared shapes say, and what the user says of axes (`name=axis`) and states (`input=output`).

    Raises InputError for what is said of names that are not there, and as `states_said`.
    """
    axes = axes_said(sample_axis, "sample_axis", [*graph.inputs, *graph.compared])
    return Signature.declared(graph, axes, axes_said(classes, "classes", graph.compared), states_said(graph, states))


def states_said(graph: FloatGraph, texts: Sequence[str]) -> dict[str, str]:
    """Return the output that each state is fed from, as the user says it: `input=output`.

    Raises InputError for another form, for names that are not there, and for shapes or types that differ.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, output = text.partition("=")
        if not equals:
            raise InputError(f"states: {text!r} must be INPUT=OUTPUT")
        _check_name(name, graph.inputs, "input")
        _check_name(output, graph.outputs, "output")
        _check_alike(graph, name, output)
        found[name] = output
    if found and len(found) == len(graph.inputs):
        raise InputError(f"states: all inputs ({', '.join(found)}) are states, which leaves none for the data")
    return found


def _check_name(name: str, names: Sequence[str], kind: str) -> None:
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
        raise InputError(f"states: the model has no {kind} {name!r}; {hint}")


def _check_alike(graph: FloatGraph, name: str, output: str) -> None:
    given, taken = graph.shape(output), graph.shape(name)
    if taken == ():
        raise InputError(f"states: {name} is a single number, which has no axis for the samples")
    if graph.element_type(name) != graph.element_type(output):
        kinds = [str(onnx.TensorProto.DataType.Name(graph.element_type(one))).lower() for one in (output, name)]
        raise InputError(f"states: {output} is {kinds[0]} and {name} {kinds[1]}; a state keeps its type")
    if given is not None and taken is not None and not _may_be_equal(given, taken):
        shapes = [f"[{', '.join(str(size or 'any') for size in shape)}]" for shape in (given, taken)]
        raise InputError(f"states: {output} has shape {shapes[0]} and {name} {shapes[1]}; a state keeps its shape")


def _may_be_equal(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def likely_states(graph: FloatGraph) -> dict[str, str]:
    """Return the inputs that are states by all that shows, each with its output: name, shape and type are alike."""
    return {name: output for name in graph.inputs for output in list(_outputs_like(graph, name))[:1]}


def _outputs_like(graph: FloatGraph, name: str) -> Iterator[str]:
    stem = _stem(name, _OLD)
    for output in graph.outputs:
        alike = graph.element_type(name) == graph.element_type(output) and _may_be_equal(
            _sizes(graph, name), _sizes(graph, output)
        )
        if stem and alike and graph.shape(name) and _stem(output, _NEW) in (stem, f"{stem}n"):
            yield output


_OLD = frozenset("in input prev previous old init initial past 0".split())
_NEW = frozenset("n out output next new cur current present t 1".split())


def _stem(name: str, marks: frozenset[str]) -> str:
    """Return a name without the words that tell a state before a step from the one behind it."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]
    return "".join(word for word in words if word not in marks)


def _sizes(graph: FloatGraph, name: str) -> list[int | str | None]:
    """Return each size: its number, its symbol, or None."""
    value = graph.values.get(name)
    dims = value.type.tensor_type.shape.dim if value is not None else ()
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims]
