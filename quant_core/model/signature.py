"""What each input and output of a model is: samples along an axis, a constant for the run, a state; logits or not.

The batch axis is found in this order: as the user says; by the symbol that inputs and outputs share in their declared
shapes; by a trial run (see `observation`); else it is the first. What was found is kept in the prepared model, where
data, batches, calibration, probes and scoring read it.

Where the model has states, a sample is a sequence. In the data its other inputs have one more axis, that of steps,
behind that of samples; and so have outputs once they are compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph
from quant_core.model.notes import OWN_PREFIX, note, noted

__all__ = ["FIXED", "InputRole", "OutputRole", "Signature", "axes_said", "fixed_inputs"]

_KEY = f"{OWN_PREFIX}signature"
FIXED = f"{OWN_PREFIX}fixed"
"""The key of the inputs that the user fixed, in a prepared model: their values by name, as JSON."""

_BATCH_NAMES = frozenset(["batch", "batch_size", "batchsize", "bs", "n", "b"])
"""How exporters name the axis of samples."""


@dataclass(frozen=True)
class InputRole:
    """What is fed to an input."""

    name: str
    """The input's."""
    axis: int | None
    """Axis of the samples; None for a constant of the whole run."""
    said: bool = False
    """Whether the axis is known: said by the user, or by the symbol that inputs share."""
    state: str | None = None
    """The output whose value of one step is fed to it at the next; None where it is no state."""


@dataclass(frozen=True)
class OutputRole:
    """What comes out of an output."""

    name: str
    """The output's."""
    axis: int | None = None
    """Axis of the samples; None where none was found."""
    classes: int | None = None
    """Axis of the classes, once the axis of samples is the first (and that of steps the second); None where none was
    found."""
    said: bool = False
    """Whether the user says the axis of classes."""
    probabilities: bool = False
    """Whether the values along the axis of classes are probabilities, not logits."""
    power: float = 1.0
    """Mean square of its values on the first samples: the loss that layers are ranked by weighs outputs by it."""
    channels: int | None = None
    """Axis along which its values are of unlike scale, counted as that of the classes; None without one."""
    split: int = 0
    """Where on that axis the other scale begins."""
    part_powers: tuple[float, ...] = ()
    """Mean square of the values of either part."""
    fails: str = ""
    """Why it cannot be compared sample by sample; empty where it can."""


@dataclass(frozen=True)
class Signature:
    """What all inputs and outputs of a model are."""

    inputs: tuple[InputRole, ...]
    """In the model's order."""
    outputs: tuple[OutputRole, ...]
    """In the model's order."""
    batch: int | None = None
    """Samples that the model insists on at once; None where it takes any number."""
    elements: int | None = None
    """Values of all tensors for one sample, or step, on average over the data; None where no data were seen."""

    @property
    def states(self) -> Mapping[str, str]:
        """The inputs that are states, each with the output that it is fed from."""
        return {role.name: role.state for role in self.inputs if role.state is not None}

    @property
    def leading(self) -> int:
        """Number of axes in front of those of a single result: that of samples, and where there are states of steps."""
        return 2 if self.states else 1

    def sample_shape(self, graph: FloatGraph, output: str) -> tuple[int | None, ...] | None:
        """Return the declared shape of an output with the axis of samples first, and that of steps second."""
        shape, axis = graph.shape(output), self.output(output).axis or 0
        return None if shape is None else ((None,) * self.leading + (*shape[:axis], *shape[axis + 1 :]))

    def input(self, name: str) -> InputRole:
        """The role of an input."""
        return next((role for role in self.inputs if role.name == name), InputRole(name, 0))

    def output(self, name: str) -> OutputRole:
        """The role of an output."""
        return next((role for role in self.outputs if role.name == name), OutputRole(name))

    @classmethod
    def of(cls, graph: FloatGraph) -> Signature:
        """The signature that a prepared model holds, or else what its declared shapes say."""
        kept = noted(graph.model, _KEY)
        if kept is None:
            return cls.declared(graph)
        found = json.loads(kept)
        return cls(
            tuple(InputRole(**role) for role in found.pop("inputs")),
            tuple(OutputRole(**role) for role in found.pop("outputs")),
            **found,
        )

    def unsplit(self) -> Signature:
        """Return the same with outputs as wholes, whatever the scale of their channels."""
        wholes = (replace(role, channels=None, split=0, part_powers=()) for role in self.outputs)
        return replace(self, outputs=tuple(wholes))

    def keep_in(self, model: onnx.ModelProto) -> None:
        """Write the signature into a prepared model, in the place of another."""
        note(model, _KEY, json.dumps(asdict(self)))

    @classmethod
    def declared(
        cls,
        graph: FloatGraph,
        axes: Mapping[str, int] | None = None,
        classes: Mapping[str, int] | None = None,
        states: Mapping[str, str] | None = None,
    ) -> Signature:
        """Return what declared shapes say; `axes`, `classes` and `states` are axes and states that the user gives."""
        axes, classes, states = axes or {}, classes or {}, states or {}
        symbols = {name: _symbols(graph, name) for name in (*graph.inputs, *graph.compared)}
        shared = _batch_symbol([symbols[name] for name in graph.inputs])
        inputs = tuple(_input_role(graph, name, symbols[name], shared, axes) for name in graph.inputs)
        fixed = None
        if shared is None:
            fixed = _fixed_batch(graph, [role for role in inputs if role.name not in states])
        inputs = tuple(_state_role(graph, role, states, fixed) for role in inputs)
        outputs = tuple(
            _output_role(name, symbols[name], shared, axes, classes, bool(states)) for name in graph.compared
        )
        return cls(inputs, outputs, fixed)


def axes_said(texts: Sequence[str], option: str, names: Sequence[str]) -> dict[str, int]:
    """Axes that the user says, each as `name=axis`; raises InputError for another form or no such name."""
    found = {}
    for text in texts:
        name, _, axis = text.rpartition("=")
        if name not in names or not axis.removeprefix("-").isdecimal():
            raise InputError(f"{option}: {text!r} must be NAME=AXIS with one of {', '.join(names)}")
        found[name] = int(axis)
    return found


def _symbols(graph: FloatGraph, name: str) -> tuple[str | None, ...]:
    """The symbol of each dimension; None of one that is fixed or has none."""
    value = graph.values.get(name)
    if value is None or not value.type.tensor_type.HasField("shape"):
        return ()
    return tuple(dim.dim_param or None for dim in value.type.tensor_type.shape.dim)


def _batch_symbol(inputs: Sequence[Sequence[str | None]]) -> str | None:
    """The symbol of the samples: named as one, or else the one on some first axis that most inputs have."""
    every = [symbol for symbols in inputs for symbol in dict.fromkeys(symbols) if symbol]
    named = next((symbol for symbol in every if symbol.lower() in _BATCH_NAMES), None)
    if named is not None:
        return named
    firsts = {symbols[0] for symbols in inputs if symbols and symbols[0]}
    counts = Counter(every)
    return max((symbol for symbol in counts if symbol in firsts), key=lambda symbol: counts[symbol], default=None)


def _input_role(
    graph: FloatGraph, name: str, symbols: Sequence[str | None], shared: str | None, axes: Mapping[str, int]
) -> InputRole:
    shape = graph.shape(name)
    if name in axes:
        return InputRole(name, axes[name] % len(shape) if shape else axes[name], said=True)
    if shape == ():
        return InputRole(name, None, said=True)
    if shared is not None and shared in symbols:
        return InputRole(name, list(symbols).index(shared), said=True)
    return InputRole(name, 0)


def _state_role(graph: FloatGraph, role: InputRole, states: Mapping[str, str], fixed: int | None) -> InputRole:
    """Return an input's role, as a state if it is one.

    Its axis of samples, if not known, is its only open one, or the first of the size that the batch is fixed to.
    """
    if role.name not in states:
        return role
    shape = graph.shape(role.name) or ()
    wanted = None if fixed is None or fixed not in shape else fixed
    fitting = [axis for axis, size in enumerate(shape) if size == wanted]
    axis = role.axis if role.said or len(fitting) == 0 or (wanted is None and len(fitting) > 1) else fitting[0]
    return replace(role, axis=axis, state=states[role.name])


def _fixed_batch(graph: FloatGraph, inputs: Sequence[InputRole]) -> int | None:
    """The number of samples that all declared shapes insist on."""
    found = [shape[role.axis] for role in inputs if role.axis is not None and (shape := graph.shape(role.name))]
    return next((size for size in found if size is not None), None)


def _output_role(
    name: str,
    symbols: Sequence[str | None],
    shared: str | None,
    axes: Mapping[str, int],
    classes: Mapping[str, int],
    has_steps: bool,
) -> OutputRole:
    axis = axes[name] % len(symbols) if name in axes and symbols else None
    if axis is None and shared is not None and shared in symbols:
        axis = list(symbols).index(shared)
    role = OutputRole(name, axis)
    if name not in classes:
        return role
    return replace(role, classes=behind_samples(classes[name] % len(symbols), axis) + has_steps, said=True)


def behind_samples(axis: int, samples: int | None) -> int:
    """The number of an axis once that of the samples is moved to the front."""
    return axis + 1 if samples is not None and axis < samples else axis


def fixed_inputs(graph: FloatGraph) -> dict[str, NDArray[np.generic]]:
    """The inputs of the user's model that are fixed for good in the prepared one, and their values."""
    kept = json.loads(noted(graph.model, FIXED) or "{}")
    return {name: np.asarray(value, dtype) for name, (value, dtype) in kept.items()}
