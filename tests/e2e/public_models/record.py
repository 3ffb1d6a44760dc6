"""A public model, and how its sessions are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

__all__ = ["Array", "Arrays", "PublicModel", "fed_with", "outputs_of", "session_of"]

Array = NDArray[np.generic]
Arrays = dict[str, Array]
Outputs = dict[str, Array]


def whole_outputs(found: Outputs) -> Outputs:
    """Return the float outputs, each as a whole."""
    return {name: array for name, array in found.items() if array.dtype.kind == "f"}


@dataclass(frozen=True)
class PublicModel:
    """A model that anybody can get or make, with samples of its task."""

    name: str
    """As the table has it."""
    package: str
    """The package that it comes from or is made by, with its version."""
    get: Callable[[Path], Path]
    """Puts the model in a folder; returns its path."""
    data: Callable[[Path], Arrays]
    """Samples for the model at a path, by input; under the name `""` those of its first input."""
    task: Callable[[Outputs, Outputs], str]
    """What the task makes of the outputs of the float and of the quantized model."""
    options: dict[str, object] = field(default_factory=dict)
    """Options of the run."""
    fixed: Mapping[str, Array] = field(default_factory=dict)
    """Inputs with one value for all samples."""
    states: Mapping[str, str] = field(default_factory=dict)
    """Inputs that are the outputs of these names from the step before; the samples are sequences of steps then."""
    pieces: Callable[[Outputs], Outputs] = whole_outputs
    """What the score is the worst of: outputs, or parts of them."""


def session_of(path: Path) -> ort.InferenceSession:
    """Return a session at ONNX Runtime's defaults, which says nothing of models' faults."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def fed_with(session: ort.InferenceSession, arrays: Arrays, public: PublicModel, row: int, step: int = 0) -> Arrays:
    """Return what a sample feeds at a step: its entry, which has an axis of 1 for the batch, or is given one.

    States are zeros.
    """
    found: Arrays = {}
    for value in session.get_inputs():
        if value.name in public.states:
            found[value.name] = np.zeros([size if isinstance(size, int) else 1 for size in value.shape], np.float32)
        elif value.name not in arrays:
            found[value.name] = public.fixed[value.name]
        elif public.states:
            found[value.name] = arrays[value.name][row : row + 1, step]
        else:
            array = arrays[value.name]
            found[value.name] = array[row] if array.ndim > len(value.shape) else array[row : row + 1]
    return found


def outputs_of(path: Path, arrays: Arrays, public: PublicModel) -> Outputs:
    """Return the outputs of a default session for one sample after the other, an entry a sample, or a step of one.

    States are what the model itself gave out a step before, zeros at first.
    """
    session = session_of(path)
    names = [value.name for value in session.get_outputs()]
    first = next(iter(arrays.values()))
    rows: list[list[Array]] = []
    for row in range(len(first)):
        for step in range(first.shape[1] if public.states else 1):
            feeds = fed_with(session, arrays, public, row, step)
            if step:
                before = dict(zip(names, rows[-1], strict=True))
                feeds |= {state: before[output] for state, output in public.states.items()}
            rows.append(session.run(None, feeds))
    return {name: np.stack(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)}
