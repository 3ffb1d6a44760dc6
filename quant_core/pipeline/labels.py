"""What each stage's call works on, in words: so that a list of task runs can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from quant_core.execution.runner import Arguments
from quant_core.precision import DataType
from quant_core.storage.references import Reference

__all__ = [
    "DOT",
    "data_file",
    "float_outputs",
    "layer_latency",
    "migration",
    "model_file",
    "model_timing",
    "own_score",
    "plan",
    "plan_score",
    "probes",
    "ranking",
    "reconstruction",
    "rounding",
    "tensor_probes",
    "written_file",
]

DOT = " · "
"""Between two parts of a label."""


def model_file(arguments: Arguments) -> str:
    """Return `net.onnx`."""
    return _file(arguments["model"])


def data_file(arguments: Arguments) -> str:
    """Return `on images.npz`."""
    return f"on {_file(arguments['data'])}"


def float_outputs(arguments: Arguments) -> str:
    """Return `float outputs for images.npz`."""
    return f"float outputs for {_file(arguments['data'])}"


def written_file(arguments: Arguments) -> str:
    """Return `the written file on images.npz`."""
    return f"the written file {data_file(arguments)}"


def ranking(arguments: Arguments) -> str:
    """Return `44 layers`."""
    return f"{arguments['layers'].num_rows} layers"


def migration(arguments: Arguments) -> str:
    """Return `factors for a8w8 on images.npz`."""
    return f"factors for {arguments['precision']} {data_file(arguments)}"


def rounding(arguments: Arguments) -> str:
    """Return `weights to int4 on images.npz`."""
    kind = next(kind for kind in DataType if kind.code == arguments["weights"])
    beside = " beside floats" if arguments["alone"] else ""
    return f"weights to {kind}{beside} {data_file(arguments)}"


def reconstruction(arguments: Arguments) -> str:
    """Return `weights of a8w4 on images.npz`, or of the plan found."""
    precisions = set(arguments["plan"].values())
    what = precisions.pop() if len(precisions) == 1 else "the plan found"
    return f"weights of {what} {data_file(arguments)}"


def layer_latency(arguments: Arguments) -> str:
    """Return `of layers at float32, au8w8`."""
    return f"of layers at {', '.join(arguments['precisions'])}"


def model_timing(arguments: Arguments) -> str:
    """Return `of float, wide, mixed`."""
    return f"of {', '.join(arguments['models'])}"


def own_score(arguments: Arguments) -> str:
    """Return `by my.metrics:words on images.npz`."""
    return f"by {arguments['evaluator'].name} {data_file(arguments)}"


def probes(arguments: Arguments) -> str:
    """Return `layers 24-31 at a8w8 · samples 0-64`."""
    names = arguments["recipe"].layers.column("layer").to_pylist()
    listed = _ranges([place for place, name in enumerate(names, start=1) if name in arguments["shard"]])
    layers = f"{'layer' if len(arguments['shard']) == 1 else 'layers'} {listed}"
    return f"{layers} at {arguments['precision']}{DOT}{_samples(arguments)}"


def tensor_probes(arguments: Arguments) -> str:
    """Return `12 tensors alone quantized · samples 0-64`."""
    count = len(arguments["shard"])
    return f"{count} {'tensor' if count == 1 else 'tensors'} alone quantized{DOT}{_samples(arguments)}"


def plan(arguments: Arguments) -> str:
    """Return `9 a8w8 + 5 a16w8`: how many layers have which precision."""
    counts: dict[str, int] = {}
    for precision in arguments["plan"].values():
        counts[precision] = counts.get(precision, 0) + 1
    return " + ".join(f"{count} {precision}" for precision, count in counts.items())


def plan_score(arguments: Arguments) -> str:
    """Return `9 a8w8 + 5 a16w8 · samples 0-450`."""
    return f"{plan(arguments)}{DOT}{_samples(arguments)}"


def _ranges(numbers: Sequence[int]) -> str:
    """Return `1-3, 7, 9-12`; no more than three of them."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(texts[:3]) + (f" and {sum(b - a + 1 for a, b in runs[3:])} more" if len(texts) > 3 else "")


def _samples(arguments: Arguments) -> str:
    return f"samples {arguments['samples'].start}-{arguments['samples'].stop}"


def _file(reference: Reference) -> str:
    return PurePosixPath(str(reference)).name or str(reference)
