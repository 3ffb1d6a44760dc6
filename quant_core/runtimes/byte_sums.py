"""Which 8-bit weights ONNX Runtime adds up wrongly on some processors, and codes that it adds up rightly on all.

Without VNNI an x86 processor multiplies unsigned activations by signed weights in pairs, and adds both products in
16 bits (the instruction vpmaddubsw), where they saturate: 255 x (w1 + w2) must stay within int16. So two weights that
are neighbours in the order in which a kernel reads them must not add up to more than BOUND in magnitude. Kernels of
convolutions read the inputs of an output either channel by channel or position by position; both orders are looked at.
A depthwise convolution has a kernel of its own, which does not saturate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOUND", "is_depthwise", "limited", "overflows"]

BOUND = 128
"""The largest magnitude of a sum of two neighbouring weights: 255 x 128 is the last multiple of 255 within int16."""

_PASSES = 8

Codes = NDArray[np.int32]


def overflows(op_type: str, codes: NDArray[np.generic], inputs_axis: int | None, group: int = 1) -> bool:
    """Return whether sums of some activations times these int8 weights may leave 16 bits.

    `inputs_axis` is the axis of a MatMul's or Gemm's weight that is summed over; for a weight on the left, None.
    `group` is that of a Conv.
    """
    if is_depthwise(op_type, codes, group):
        return False
    if op_type != "Conv" and inputs_axis is None:
        return True  # kernels take the left operand for the unsigned one
    return any((_excess(rows) != 0).any() for rows in _orders(op_type, codes.astype(np.int32), inputs_axis))


def limited(op_type: str, codes: NDArray[np.generic], inputs_axis: int | None) -> NDArray[np.generic]:
    """The codes with every two neighbours whose sum overflows drawn towards 0, both alike."""
    found = codes.astype(np.int32)
    for _ in range(_PASSES):
        if not overflows(op_type, found, inputs_axis):
            return found.astype(codes.dtype)
        for rows in _orders(op_type, found, inputs_axis):  # views of `found`, changed in place
            _draw_in(rows)
    return np.clip(found, -BOUND // 2, BOUND // 2).astype(codes.dtype)


def is_depthwise(op_type: str, codes: NDArray[np.generic], group: int) -> bool:
    """Return whether each input channel of a Conv has one output channel.

    Several of them share the kernel of other convolutions.
    """
    return op_type == "Conv" and codes.shape[1] == 1 and codes.shape[0] == group


def _orders(op_type: str, codes: Codes, inputs_axis: int | None) -> list[Codes]:
    """The weights of each output along the last axes, in every order in which a kernel may read them."""
    if op_type == "Conv":
        return [codes, np.moveaxis(codes, 1, -1)]
    return [np.moveaxis(np.atleast_2d(codes), -1 if codes.ndim == 1 else inputs_axis or 0, -1)]


def _excess(rows: Codes) -> Codes:
    """By how much each sum of two neighbours is beyond the bound."""
    flat = rows.reshape(rows.shape[0], -1) if rows.ndim != 2 else rows
    sums = flat[:, :-1] + flat[:, 1:]
    return np.asarray(sums - np.clip(sums, -BOUND, BOUND))


def _draw_in(rows: Codes) -> None:
    """Take half of the excess from each of two neighbours: first of the even pairs, then of the odd ones."""
    for first in (0, 1):
        flat = rows.reshape(rows.shape[0], -1)
        excess = _excess(flat)[:, first::2]
        width = excess.shape[1]
        flat[:, first : first + 2 * width : 2] -= excess - excess // 2
        flat[:, first + 1 : first + 1 + 2 * width : 2] -= excess // 2
        rows[...] = flat.reshape(rows.shape)
