"""Labels of the data, and the outputs whose classes they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.data.fitted_data import fits, spelled, without_axis
from quant_core.model.data.sequences import step_counts
from quant_core.model.graph import FloatGraph
from quant_core.model.signature import OutputRole, Signature
from quant_core.storage.data import Dataset

__all__ = ["check_labels", "class_axis", "fitting_labels"]


def check_labels(graph: FloatGraph, data: Dataset, output: str, signature: Signature | None = None) -> None:
    """Raise InputError unless the data has one integer label for each thing the output classifies.

    Where the model has states, that is at each step.
    """
    if data.labels is None:
        raise InputError(f"{data.source}: has no array 'labels', which a top-1 target needs")
    if data.labels.dtype.kind not in "iu":
        one_hot = data.labels.ndim > 1 and set(np.unique(data.labels)) <= {0, 1}
        way_out = ": of one-hot labels, labels.argmax(axis=1)" if one_hot else ""
        raise InputError(f"{data.source}: labels are {data.labels.dtype}, they must be integer class numbers{way_out}")
    signature = signature or Signature.of(graph)
    shape, role = signature.sample_shape(graph, output), signature.output(output)
    if shape is None:
        return
    axis = class_axis(role, shape, data.labels, signature.leading)
    if len(shape) < 2 or not fits(data.labels.shape, without_axis(shape, axis)):
        wanted = spelled(without_axis(shape, min(axis, len(shape) - 1)) or (None,), 0)
        each = ", one a step" if signature.states else ""
        raise InputError(
            f"{data.source}: labels have shape {list(data.labels.shape)}, output {output} wants {wanted}{each}"
        )
    if signature.states:
        _check_steps_labelled(data, data.labels.shape[1], signature)
    classes = shape[axis]
    if classes and not 0 <= data.labels.min() <= data.labels.max() < classes:
        raise InputError(
            f"{data.source}: labels run from {data.labels.min()} to {data.labels.max()}, "
            f"output {output} has classes 0 to {classes - 1}"
        )


def _check_steps_labelled(data: Dataset, labelled: int, signature: Signature) -> None:
    """Raise InputError for a sequence that has more steps than labels; labels of shorter ones are padded."""
    counts = step_counts(data, signature.states)
    if (counts > labelled).any():
        row = int(np.argmax(counts > labelled))
        raise InputError(f"{data.source}: labels are of {labelled} steps, and sample {row} has {counts[row]}")


def class_axis(
    role: OutputRole, shape: Sequence[int | None], labels: NDArray[np.generic] | None = None, leading: int = 1
) -> int:
    """The axis of classes of an output whose samples are along the first: known, or what labels fit; else the next.

    That is the one behind the `leading` ones: those of samples, and maybe of steps.
    """
    if role.classes is not None:
        return role.classes
    fitting = [
        axis
        for axis in range(leading, len(shape))
        if labels is not None and fits(labels.shape, (None, *without_axis(shape, axis)[1:]))
    ]
    return leading if not fitting or leading in fitting else fitting[-1]


def fitting_labels(labels: NDArray[np.generic] | None, shape: Sequence[int], axis: int) -> NDArray[np.generic] | None:
    """The labels, if they are classes of an output of that shape; else None: nothing is counted by them."""
    if (
        labels is None
        or len(shape) < 2
        or labels.dtype.kind not in "iu"
        or labels.shape[1:] != without_axis(shape, axis)[1:]
    ):
        return None
    return labels
