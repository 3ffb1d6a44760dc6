"""What was tried to make layers better at equal bits."""

from __future__ import annotations

from typing import Literal

from quant_core.manifest.record import Record

__all__ = ["Improvement"]


Method = Literal["zero points", "migration", "reconstruction"]
"""What may be tried."""


class Improvement(Record):
    """What was tried to make layers better at equal bits, and what it gave on held-out calibration samples."""

    method: Method
    """What was done: `zero points` chosen for activations, `migration` of their spread into weights, or
    `reconstruction` of weights."""
    precision: str | None
    """The precision that it is for, and that all layers had when it was measured; None: the plan found by then."""
    layers: int
    """Layers that it changes."""
    of: int
    """Layers that it was tried on."""
    before: float
    """L2 of the model without it."""
    after: float
    """L2 of the model with it."""
    kept: bool
    """Whether the model has it: where the L2 is lower (of what all precisions share: on average over them, and by 1%
    at least where that takes operators; of the plan found: and no dearer plan comes of it)."""
    samples: int
    """Calibration samples that were held out."""
