"""In what form a model can be written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from quant_core.precision import Precision

__all__ = ["FormatName", "why_not_written"]

FormatName = Literal["qdq", "qoperator", "matmulnbits", "dynamiclstm"]
"""Q/DQ pairs, or operators of ONNX Runtime's own in their place."""

_LARGEST_BLOCK = 256  # that MatMulNBits takes


def why_not_written(
    form: FormatName,
    runtime: str,
    ladder: Sequence[Precision],
    block_size: int | None,
    layer_ops: Collection[str],
    times_layers: bool,
) -> str:
    """Return why a run cannot write its model in a form; empty where it can.

    Args:
        form: The form.
        runtime: Where the model is to run.
        ladder: The precisions that a plan is made of, wide first; wide alone where the user writes the plan.
        block_size: How many inputs share a scale in weights that have blocks.
        layer_ops: Operators that are layers.
        times_layers: Whether plans are priced by what layers take when they are run: between pairs.

    """
    if form == "qoperator":
        return next(filter(None, (precision.why_not_integer for precision in ladder)), "")
    if form != "qdq" and not runtime.startswith("onnxruntime"):
        return f"{form} is ONNX Runtime's own, not for {runtime}; use qdq"
    if form == "matmulnbits" and not _has_fitting_blocks(ladder, block_size):
        return (
            f"matmulnbits is for weights in blocks of 16 to {_LARGEST_BLOCK}: "
            "give a block_size, or precisions such as float32w4b32"
        )
    return _why_no_dynamic_lstms(ladder, layer_ops, times_layers) if form == "dynamiclstm" else ""


def _has_fitting_blocks(ladder: Sequence[Precision], block_size: int | None) -> bool:
    """Return whether weights have blocks, or may have them by the user's plan, none too long for MatMulNBits."""
    sizes = [size for size in (block_size, *(precision.block for precision in ladder)) if size]
    return max(sizes) <= _LARGEST_BLOCK if sizes else len(ladder) == 1


def _why_no_dynamic_lstms(ladder: Sequence[Precision], layer_ops: Collection[str], times_layers: bool) -> str:
    if "LSTM" not in layer_ops:
        return "dynamiclstm is for LSTM layers: add LSTM to layer_ops, or use qdq"
    if len(ladder) > 1 and not any(map(_is_of_8_bits, ladder)):
        return "dynamiclstm is for layers of 8 bits: add a precision such as a8w8, or use qdq"
    if times_layers:
        return "dynamiclstm is not what the cost latency times, which is pairs: give device_costs, or another cost"
    return ""


def _is_of_8_bits(precision: Precision) -> bool:
    return {precision.activations.bits, precision.weights.bits} == {8}
