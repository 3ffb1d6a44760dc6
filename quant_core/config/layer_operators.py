"""Which operators are layers by default."""

from __future__ import annotations

from quant_core.config.runtimes import RECURRENT_LAYERS, RECURRENT_WEIGHTS_ALONE
from quant_core.errors import InputError
from quant_core.model.operators import PRODUCT_OPS, TABLE_OP, LayerOp
from quant_core.precision import Precision

__all__ = ["default_layer_ops", "is_weight_only"]


def default_layer_ops(narrow: object, runtime: object) -> tuple[LayerOp, ...]:
    """Return the operators that are layers in a runtime, beside precisions that a search may choose.

    Where one of these narrows weights alone, tables of embeddings are weights as well.
    """
    alone = [is_weight_only(precision) for precision in (narrow if isinstance(narrow, list | tuple) else ())]
    recurrent = RECURRENT_LAYERS.get(str(runtime), ())
    if str(runtime) in RECURRENT_WEIGHTS_ALONE and not (alone and all(alone)):
        recurrent = ()
    return (*PRODUCT_OPS, *recurrent, *((TABLE_OP,) if any(alone) else ()))


def is_weight_only(precision: object) -> bool:
    """Return whether a precision, or its text, is one of weights beside floats."""
    try:
        return Precision.parse(str(precision)).is_weight_only
    except InputError:  # which pydantic tells, with the field
        return False
