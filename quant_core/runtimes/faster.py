"""What would be faster than a file that is slower than the float model, from what its layers run as."""

from __future__ import annotations

from collections.abc import Sequence

from quant_core.precision import Precision
from quant_core.runtimes.kernels import NO_KERNEL, NOT_QUANTIZED, LayerKernel

__all__ = ["faster_options", "is_as_fast", "is_slower"]

_NOISE = 1.05
"""Two times of one model may differ by this factor."""


def is_slower(taken: float, float_model: float) -> bool:
    """Return whether a model takes longer than the float model, by more than times of one model differ."""
    return taken > _NOISE * float_model


def is_as_fast(taken: float, float_model: float) -> bool:
    """Return whether the times of a model and of the float model differ by no more than those of one model may."""
    return not is_slower(taken, float_model) and not is_slower(float_model, taken)


def faster_options(wide: Precision, kernels: Sequence[LayerKernel], saves_latency: bool) -> str:
    """Return what is faster: the options of another file and why, or the float model where no option is known to be.

    Args:
        wide: the precision of layers that are not narrowed.
        kernels: what the layers of the plan run as.
        saves_latency: whether the search went by measured times.

    """
    in_float = [kernel for kernel in kernels if kernel.why and not kernel.is_integer]
    paired = [kernel for kernel in in_float if NOT_QUANTIZED not in kernel.why]
    count = f"{len(paired)} of {len(kernels)} layers are computed in float between Q/DQ pairs"
    if paired and not wide.is_float:
        return f"--wide float32 ({count}; with a wide float32 they get integer kernels or no pairs)"
    without = [kernel for kernel in paired if NO_KERNEL in kernel.why]
    if without:
        return f"--narrow au8w8 ({count}: {without[0].why})"
    if not saves_latency:
        return "--cost latency (it narrows only layers that are measured to be faster)"
    return "the float model (no option is known to give a faster file)"
