"""Chooses a weight's codes, step sizes and bias for what the float layer puts out, given what the quantized one reads.

The objective is that of Nagel et al., "Up or down? Adaptive rounding for post-training quantization" (ICML 2020), with
the inputs of the quantized model on one side and the outputs of the float model on the other, so that a layer makes up
for what the layers before it lost. It is quadratic in the weights, so no gradients are needed:

1. The float weights that fit best are a least-squares solution, held near the model's own.
2. Each output channel's step is the one of least error among shares of its largest magnitude.
3. Codes are rounded one input after the other (see `gptq`).
4. In turn, the step that fits the codes best (closed form), and each code the one that fits best with all others held
   (coordinate descent), until nothing moves or for so many sweeps.
5. The bias takes what is left on average.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quant_core.numerics import QParams
from quant_core.quantization.rounding.gptq import DAMPING, second_order_codes

__all__ = ["Moments", "Rows", "reconstructed"]

Matrix = NDArray[np.float64]

_SHARES = 1 - np.arange(12) / 20
"""Steps that are tried, as shares of the one that holds the largest magnitude."""
_SWEEPS = 2


@dataclass(frozen=True)
class Moments:
    """Sums over the columns that one product of matrices reads (quantized) and writes (in float)."""

    inputs: Matrix
    """Sums of input x input, [width, width]."""
    outputs: Matrix
    """Sums of output x input, [outputs, width]."""
    input_totals: NDArray[np.float64]
    """Sums of inputs, [width]."""
    output_totals: NDArray[np.float64]
    """Sums of outputs, [outputs]."""
    output_power: float
    """Sum of the squares of all outputs."""
    count: int
    """Columns."""

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.inputs + other.inputs,
            self.outputs + other.outputs,
            self.input_totals + other.input_totals,
            self.output_totals + other.output_totals,
            self.output_power + other.output_power,
            self.count + other.count,
        )

    def squared_error(self, weight: Matrix, bias: NDArray[np.float64]) -> float:
        """Return how far a product with a weight [outputs, width] and a bias [outputs] is from the float outputs."""
        explained = np.sum(weight * self.outputs) + np.sum(bias * self.output_totals)
        own = np.sum((weight @ self.inputs) * weight) + self.count * np.sum(bias**2)
        crossed = np.sum(bias * (weight @ self.input_totals))
        return float(own + 2 * crossed - 2 * explained + self.output_power)

    def around(self, bias: NDArray[np.float64] | None) -> tuple[Matrix, Matrix]:
        """Return moments of inputs, and of outputs and inputs: less a bias or, with None, around their means."""
        if bias is not None:
            return self.inputs, self.outputs - np.outer(bias, self.input_totals)
        mean = self.input_totals / self.count
        return self.inputs - np.outer(self.input_totals, mean), self.outputs - np.outer(self.output_totals, mean)


@dataclass(frozen=True)
class Rows:
    """A weight as rows of a product: codes and steps."""

    codes: Matrix
    """Whole numbers, [outputs, width]."""
    qparams: QParams
    """Scale and zero point, one for each value."""
    bias: NDArray[np.float64]
    """What the product is added to, [outputs]."""

    @property
    def values(self) -> Matrix:
        """The weight that the codes stand for."""
        return np.asarray((self.codes - self.qparams.zero_point) * self.qparams.scale.astype(np.float64))


def reconstructed(
    values: NDArray[np.float32],
    bias: NDArray[np.float64],
    moments: Moments,
    qparams: QParams,
    free_scales: bool,
    free_bias: bool,
    damping: float = DAMPING,
) -> Rows:
    """Choose the rows of a weight by the moments of what it is multiplied with.

    Args:
        values: float weight, [outputs, width].
        bias: float bias, [outputs]; zeros without one.
        moments: of the product's columns.
        qparams: scale and zero point to begin with, one for each value.
        free_scales: whether each output channel has one symmetric scale that may be chosen anew.
        free_bias: whether the bias may be chosen anew.
        damping: what is added to each input's power, as a share of their mean; the more, the nearer the result
            is to the float weight.

    Raises numpy.linalg.LinAlgError for moments that are not finite.

    """
    inputs, outputs = moments.around(None if free_bias else bias)
    damped = inputs + damping * (float(np.mean(np.diag(inputs))) or 1.0) * np.eye(len(inputs))
    own = values.astype(np.float64)
    wanted = own + np.linalg.solve(damped, (outputs - own @ inputs).T).T
    chosen = _with_best_steps(wanted, np.diag(damped), qparams) if free_scales else qparams
    codes = second_order_codes(wanted.astype(np.float32), inputs, chosen, damping).astype(np.float64)
    for _ in range(_SWEEPS):
        if free_scales:
            chosen = _with_fitting_steps(codes, wanted, damped, chosen)
        codes = _descended(codes, wanted, damped, chosen)
    rows = Rows(codes, chosen, bias)
    if not free_bias:
        return rows
    return replace(rows, bias=(moments.output_totals - rows.values @ moments.input_totals) / moments.count)


def _with_best_steps(wanted: Matrix, power: NDArray[np.float64], qparams: QParams) -> QParams:
    """Return for each row the step of least error when every value is rounded alone, weighted by its input's power."""
    smallest, largest = qparams.dtype.code_range
    whole = np.abs(wanted).max(axis=1, keepdims=True) / largest
    whole = np.where(whole > 0, whole, 1.0)
    tried = [whole * share for share in _SHARES]
    errors = [
        np.sum((np.clip(np.rint(wanted / step), smallest, largest) * step - wanted) ** 2 * power, axis=1)
        for step in tried
    ]
    best = np.asarray(_SHARES)[np.argmin(errors, axis=0)][:, None] * whole
    return replace(qparams, scale=np.broadcast_to(best, wanted.shape).astype(np.float32))


def _with_fitting_steps(codes: Matrix, wanted: Matrix, inputs: Matrix, qparams: QParams) -> QParams:
    """Return for each row the step at which its codes come nearest to the outputs wanted; a row of zeros keeps its."""
    weighed = codes @ inputs
    across, along = np.sum(weighed * wanted, axis=1), np.sum(weighed * codes, axis=1)
    fits = (along > 0) & (across > 0)
    step = np.divide(across, along, out=np.ones_like(along), where=fits)
    return replace(qparams, scale=np.where(fits[:, None], step[:, None], qparams.scale).astype(np.float32))


def _descended(codes: Matrix, wanted: Matrix, inputs: Matrix, qparams: QParams) -> Matrix:
    """Return codes after one sweep over the inputs, the most powerful first: each the best with all others held."""
    smallest, largest = qparams.dtype.code_range
    scale, codes = qparams.scale.astype(np.float64), codes.copy()
    slopes = ((codes - qparams.zero_point) * scale - wanted) @ inputs
    for at in np.argsort(-np.diag(inputs), kind="stable"):
        step = scale[:, at]
        better = np.clip(np.rint(codes[:, at] - slopes[:, at] / (inputs[at, at] * step)), smallest, largest)
        moved = np.flatnonzero(better != codes[:, at])
        slopes[moved] += np.outer((better - codes[:, at])[moved] * step[moved], inputs[at])
        codes[moved, at] = better[moved]
    return codes
