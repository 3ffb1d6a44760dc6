"""Which operators are layers where nobody says."""

from __future__ import annotations

from quant_core.config.runtimes import RECURRENT_RUNTIMES
from quant_core.errors import InputError
from quant_core.model.operators import PRODUCT_OPS, RECURRENT_OPS, TABLE_OP, LayerOp
from quant_core.precision import Precision

__all__ = ["default_layer_ops", "is_weight_only"]


def default_layer_ops(narrow: object, runtime: object) -> tuple[LayerOp, ...]:
    """Return the operators that are layers in a runtime, beside precisions that a search may choose.

    Where one of these narrows weights alone, tables of embeddings are weights as well.
    """
    recurrent = RECURRENT_OPS if runtime in RECURRENT_RUNTIMES else ()
    alone = isinstance(narrow, list | tuple) and any(map(is_weight_only, narrow))
    return (*PRODUCT_OPS, *recurrent, *((TABLE_OP,) if alone else ()))


def is_weight_only(precision: object) -> bool:
    """Return whether a precision, or its text, is one of weights beside floats."""
    try:
        return Precision.parse(str(precision)).is_weight_only
    except InputError:  # which pydantic tells, with the field
        return False
