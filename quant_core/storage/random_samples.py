"""Random samples in place of data: for a dry run of the pipeline, and for its speed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quant_core.storage.data_forms import RandomForm, RandomInput

__all__ = ["random_columns"]


def random_columns(form: RandomForm) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield (input, some of its samples), the same for the same form."""
    for place, wanted in enumerate(form.inputs):
        generator = np.random.default_rng([form.seed, place])
        if wanted.constant:
            yield wanted.name, _values(wanted, wanted.shape, generator)
            continue
        for _ in range(form.count):
            yield wanted.name, _values(wanted, (1, *wanted.shape), generator)


def _values(wanted: RandomInput, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.generic]:
    kind = np.dtype(wanted.type)
    if wanted.low is None or wanted.high is None:
        return np.asarray(generator.standard_normal(shape)).astype(kind)
    if kind.kind == "f":
        return np.asarray(generator.uniform(wanted.low, wanted.high, shape)).astype(kind)
    return np.asarray(generator.integers(int(wanted.low), int(wanted.high), shape, endpoint=True)).astype(kind)
