"""How the weight of a layer became codes."""

from __future__ import annotations

from quant_core.manifest.record import Record

__all__ = ["LayerWeight"]


class LayerWeight(Record):
    """A weight of a layer of the shipped model that was not simply rounded to nearest."""

    layer: str
    """Name of the layer."""
    weight: str
    """Its own name: a recurrent layer has two."""
    rounding: str
    """How the codes were chosen: `second order`, `nearest on a fitted grid`, `second order on a fitted grid`,
    `reconstruction`."""
    error: float | None = None
    """What that leaves of the squared error of what the layer puts out, on calibration samples: of that with codes
    rounded to nearest or, for a reconstruction, of that with the weight it had, on samples held out. For a layer that
    is no product of matrices, of the squared error of the weight itself."""
