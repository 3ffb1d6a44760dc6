"""Scores of each output, and of parts of outputs that are of unlike scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.manifest import OutputScores
from quant_core.model.prepared_model import prepared_graph
from quant_core.scoring.compared import Compared, OutputPart, compared_of
from quant_core.scoring.metrics import columns_of, decibels
from quant_core.storage.tables import facts

__all__ = ["output_scores"]

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def output_scores(
    layers: pa.Table, baseline: pa.Table, wide: pa.Table, mixed: pa.Table, cache: Path
) -> tuple[OutputScores, ...]:
    """Return the scores of each of several compared outputs, and of each part of unlike scale.

    Args:
        layers: layer table of the prepared model.
        baseline: outputs of the float model.
        wide: terms of the wide model (schema SCORES).
        mixed: terms of the shipped model.
        cache: where the prepared model is.

    """
    compared = compared_of(prepared_graph(layers, cache), baseline.column_names)
    rows = zip(_labels(compared, baseline), _powers(wide), _powers(mixed), strict=True)
    return tuple(
        OutputScores(output=name, channels=channels, wide=_scores(*first), mixed=_scores(*second))
        for (name, channels), first, second in rows
    )


def _labels(compared: Compared, baseline: pa.Table) -> Iterator[tuple[str, str]]:
    if len(compared.names) > 1:
        yield from ((name, "") for name in compared.names)
    for part in compared.parts:
        name = compared.names[part.output]
        yield name, _channels(part, facts(baseline)["shapes"][name])


def _channels(part: OutputPart, shape: Sequence[Any]) -> str:
    """Spell a part of an output; `shape` is that of a sample, or one for each where they differ."""
    size = shape[part.axis - 1]
    last = "" if part.stop is None and isinstance(size, list) else str((part.stop or size) - 1)
    return f"{part.start}-{last} on axis {part.axis}" if last != str(part.start) else f"{last} on axis {part.axis}"


def _powers(scores: pa.Table) -> Iterator[Pair]:
    """Signal and error power of each sample, outputs first, then parts."""
    for kind in ("output", "part"):
        signal, error = (scores.column(f"{kind}_{name}") for name in ("signal", "error"))
        if not signal.null_count:
            yield from zip(columns_of(signal), columns_of(error), strict=True)


def _scores(signal: NDArray[np.float64], error: NDArray[np.float64]) -> dict[str, float]:
    return {"l2": float(np.sqrt(error).mean()), "sqnr_db": decibels(signal, error).value}
