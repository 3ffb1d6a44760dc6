"""How weights are stored in a file for a runtime."""

from __future__ import annotations

from quant_core.config.quantization import QuantizationConfig
from quant_core.runtimes.registry import profile_of
from quant_core.search.cost import Storage

__all__ = ["storage"]


def storage(config: QuantizationConfig) -> Storage:
    """Return what settings and their runtime say of it."""
    return Storage(config, profile_of(config.runtime))
