"""Rounds a weight for what comes out of its layer, not for the weight itself.

Frantar et al., "GPTQ: Accurate post-training quantization for generative pre-trained transformers" (2023), with
the inputs in descending order of their power: one input after the other is rounded, and what its rounding does to
the outputs is made up for, as far as that goes, by the inputs still to come. How they can is in the second
moments of the layer's inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant_core.numerics import QParams

__all__ = ["DAMPING", "second_order_codes"]

Matrix = NDArray[np.float64]

DAMPING = 0.01
"""What is added to each input's power, as a share of their mean: calibration has seen only so many samples."""
_BLOCK = 64
"""Inputs that are rounded before the rest learns of it, for speed alone."""


def second_order_codes(
    values: NDArray[np.float32], moments: Matrix, qparams: QParams, damping: float = DAMPING
) -> NDArray[np.int64]:
    """Codes of a weight [outputs, inputs]; `moments` [inputs, inputs] are sums over samples of input x input.

    Scale and zero point of `qparams` are one for each value: shaped as `values`. `damping` is what is added to each
    input's power, as a share of their mean. Raises numpy.linalg.LinAlgError for
    moments that are not finite.
    """
    power = np.diag(moments)
    order = np.argsort(-power, kind="stable")
    factor = _compensation(moments[np.ix_(order, order)], damping)
    scale, zero_point = (part[:, order].astype(np.float64) for part in (qparams.scale, qparams.zero_point))
    left = values[:, order].astype(np.float64)
    codes = np.empty(left.shape)
    smallest, largest = qparams.dtype.code_range
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        errors = np.empty((len(left), stop - start))
        for at in range(start, stop):
            rounded = np.rint(left[:, at] / scale[:, at]) + zero_point[:, at]
            codes[:, at] = np.clip(rounded, smallest, largest)
            error = left[:, at] - (codes[:, at] - zero_point[:, at]) * scale[:, at]
            errors[:, at - start] = error / factor[at, at]
            left[:, at:stop] -= np.outer(errors[:, at - start], factor[at, at:stop])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    found = np.empty(codes.shape, np.int64)
    found[:, order] = codes
    return found


def _compensation(moments: Matrix, damping: float) -> Matrix:
    """The upper Cholesky factor of the inverse: row i says how later inputs make up for an error in input i."""
    damped = moments.copy()
    places = np.arange(len(damped))
    damped[places, places] += damping * float(np.mean(np.diag(moments))) or 1.0
    inverse = np.linalg.inv(damped)
    return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T)
