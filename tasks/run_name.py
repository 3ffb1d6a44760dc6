"""What a task run is called, so that a list of runs can be read."""

from __future__ import annotations

from quant_core.pipeline.labels import DOT

__all__ = ["run_name"]


def run_name(title: str, detail: str, number: int = 1, of: int = 1) -> str:
    """Return the name of one call of a stage, the `number`-th of so many made together.

    `probe shard 3/8 · layers 24-31 at a8w8 · samples 0-64`, `calibrate on images.npz`. A title of several words is set
    off from the detail: `search round 2 · 9 a8w8 + 5 a16w8 · samples 0-64`.
    """
    place = f" shard {number}/{of}" if of > 1 else ""
    between = DOT if place or " " in title else " "
    return f"{title}{place}{between if detail else ''}{detail}"
