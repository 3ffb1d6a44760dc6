"""A user's EvaluateFunction as a metric of the engine, which knows metrics by the name of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["METRIC", "EvaluateFunction", "evaluating", "user_accuracy"]

Array = NDArray[np.generic]
EvaluateFunction = Callable[[list[list[Array]]], float]
"""Takes, for each item of the reader, the list of the model's outputs; returns 0..1, higher is better."""

METRIC = f"{__name__}:user_accuracy"

_current: ContextVar[tuple[EvaluateFunction, Sequence[int]]] = ContextVar("evaluate_function")


@contextmanager
def evaluating(function: EvaluateFunction, sizes: Sequence[int]) -> Iterator[None]:
    """Let `user_accuracy` be a function, called with items of so many samples each."""
    token = _current.set((function, sizes))
    try:
        yield
    finally:
        _current.reset(token)


def user_accuracy(outputs: Mapping[str, Array], labels: Array | None) -> float:
    """Call the user's function with the outputs, cut into the reader's items again."""
    function, sizes = _current.get()
    cuts = np.cumsum(sizes)[:-1]
    pieces = [np.split(array, cuts) for array in outputs.values()]
    return function([list(item) for item in zip(*pieces, strict=True)])
