"""What a task run is called: what it does, on what, so that a list of runs can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from quant_core.precision import DataType
from quant_core.storage.references import Reference

__all__ = ["run_name"]

_DOT = " · "


def run_name(stage: str, arguments: Mapping[str, Any], number: int = 1, of: int = 1) -> str:
    """The name of one call of a stage, the `number`-th of so many made together.

    `probe shard 3/8 · layers 24-31 at a8w8 · samples 0-64`, `calibrate on images.npz`.
    """
    told = _TELL.get(stage)
    detail = told(arguments) if told else ""
    place = f" shard {number}/{of}" if of > 1 else ""
    return f"{stage}{place}{_DOT if place and detail else ' ' if detail else ''}{detail}"


def _probe(arguments: Mapping[str, Any]) -> str:
    places = pc.index_in(pa.array(arguments["shard"]), value_set=arguments["layers"].column("layer")).to_pylist()
    listed = _ranges(sorted(place + 1 for place in places))
    layers = f"{'layer' if len(arguments['shard']) == 1 else 'layers'} {listed}"
    return f"{layers} at {arguments['precision']}{_DOT}{_samples(arguments)}"


def _ranges(numbers: Sequence[int]) -> str:
    """1-3, 7, 9-12; no more than three of them."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(texts[:3]) + (f" and {sum(b - a + 1 for a, b in runs[3:])} more" if len(texts) > 3 else "")


def _samples(arguments: Mapping[str, Any]) -> str:
    return f"samples {arguments['start']}-{arguments['stop']}"


def _plan(arguments: Mapping[str, Any]) -> str:
    """How many layers have which precision."""
    counts: dict[str, int] = {}
    for precision in arguments["plan"].values():
        counts[precision] = counts.get(precision, 0) + 1
    return " + ".join(f"{count} {precision}" for precision, count in counts.items())


def _type_name(code: str) -> str:
    return str(next(kind for kind in DataType if kind.code == code))


_TELL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "prepare": lambda arguments: _file(arguments["model"]),
    "calibrate": lambda arguments: f"on {_file(arguments['data'])}",
    "round": lambda arguments: f"weights to {_type_name(arguments['weights'])} on {_file(arguments['data'])}",
    "latency": lambda arguments: f"of layers at {', '.join(arguments['precisions'])}",
    "timing": lambda arguments: f"of {', '.join(arguments['models'])}",
    "baseline": lambda arguments: f"float outputs for {_file(arguments['data'])}",
    "probe": _probe,
    "evaluate": lambda arguments: f"{_plan(arguments)}{_DOT}{_samples(arguments)}",
    "export": _plan,
    "verify": lambda arguments: f"the written file on {_file(arguments['data'])}",
}


def _file(reference: Reference) -> str:
    return PurePosixPath(str(reference)).name or str(reference)
