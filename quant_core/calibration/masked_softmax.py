"""Scores that a mask of -10,000 or -1e9 has pushed so far down that the Softmax after it makes them zero.

A scale that covered them would have a step wider than all the other scores together. What matters is that they
stay far below their row's largest score, so calibration sees them at a distance where their share is lost in
rounding: whatever lies below saturates there, and Softmax gives as good as nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph, integer_attribute

__all__ = ["is_masked", "masked_scores", "softmax_scores", "without_masked"]

_MASKED = -1e4
"""The mildest mask in use."""

_DISTANCE = 20.0
"""exp(-20) is 2e-9: less than float32 resolves beside 1."""

_CARRIERS = {
    **dict.fromkeys("Reshape Transpose Squeeze Unsqueeze Flatten Identity Cast Clip Expand".split(), range(1)),
    **dict.fromkeys(["Max", "Min"], range(2)),
    "Where": range(1, 3),
}
"""Operators that only move or bound values, and the positions of those values: what is masked stays masked."""

_DEFAULT_AXIS = -1  # of opset 13; before, rows went over all axes from 1 on, and a mask is of no use


def softmax_scores(graph: FloatGraph) -> Mapping[str, int]:
    """Tensors that nothing but Softmax reads, with its axis."""
    found = {}
    for name, places in graph.readers.items():
        nodes = [graph.nodes[index] for index, _ in places]
        if name not in graph.outputs and all(node.op_type == "Softmax" for node in nodes):
            axes = {integer_attribute(node, "axis", _DEFAULT_AXIS) for node in nodes}
            if len(axes) == 1:
                found[name] = axes.pop()
    return found


def masked_scores(graph: FloatGraph, scores: Mapping[str, int]) -> Mapping[str, str]:
    """Tensors whose values reach nothing but one of the scores, moved or bounded on the way, and that one."""
    found = {name: name for name in scores}
    for node in reversed(graph.nodes):
        for name in node.input:
            target = _only_target(graph, name, found)
            if target is not None and graph.is_float_activation(name):
                found.setdefault(name, target)
    return {name: target for name, target in found.items() if name != target}


def _only_target(graph: FloatGraph, name: str, known: Mapping[str, str]) -> str | None:
    """The scores that all readers of a tensor lead to; None where there are several, or other readers."""
    if not name or name in graph.outputs:
        return None
    targets: set[str | None] = set()
    for index, position in graph.readers.get(name, ()):
        node = graph.nodes[index]
        carried = position in _CARRIERS.get(node.op_type, ()) and not node.domain
        targets.add(known.get(node.output[0]) if carried else None)
    return targets.pop() if len(targets) == 1 else None


def is_masked(score: float) -> bool:
    """Return whether a score is that of a place nothing is to come from."""
    return score <= _MASKED


def without_masked(scores: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The rows of scores along an axis that are not masked as a whole, none further below its largest than matters."""
    rows = np.moveaxis(scores, axis, -1)
    largest = rows.max(axis=-1, keepdims=True)
    kept: NDArray[np.float32] = np.maximum(rows, largest - np.float32(_DISTANCE))[largest[..., 0] > _MASKED]
    return kept
