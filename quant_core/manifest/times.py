"""How long models take."""

from __future__ import annotations

from quant_core.manifest.record import Record

__all__ = ["Latency", "Pace"]

Milliseconds = float
"""Of one sample."""

Ratio = float
"""One number divided by another."""


class Pace(Record):
    """How long one sample takes in the runtime, on one thread, where it was scored."""

    float: Milliseconds
    """In the float model."""
    mixed: Milliseconds
    """In the shipped file."""
    batch: int = 1
    """Samples of a call, where the model leaves that open."""


class Latency(Record):
    """How long one sample takes in each model."""

    unit: str
    """What the times are in."""
    threads: int
    """Threads that each model ran on."""
    float: Milliseconds
    """Of the float model."""
    wide: Milliseconds
    """Of the wide model."""
    mixed: Milliseconds
    """Of the shipped model."""
    speedup: Ratio
    """How many times as fast as the float model the shipped one is."""
    batch: int = 1
    """Samples of a call, where the model leaves that open."""
    timer: str | None = None
    """The user's own function that timed them; None: ONNX Runtime did, where the run was."""
    predicted: Milliseconds | None = None
    """What the search took the shipped model for, boundaries included, where the cost is latency."""
