"""How the weight of a layer became codes."""

from __future__ import annotations

from quant_core.manifest.record import Record

__all__ = ["LayerWeight"]


class LayerWeight(Record):
    """A layer of the shipped model whose weight was not simply rounded to nearest."""

    layer: str
    """Its name."""
    rounding: str
    """How the codes were chosen: `second order`, `nearest on a fitted grid`, `second order on a fitted grid`,
    `reconstruction`."""
    error: float | None = None
    """What that leaves of the squared error of what the layer puts out, on calibration samples: of that with codes
    rounded to nearest or, for a reconstruction, of that with the weight it had, on samples held out."""
