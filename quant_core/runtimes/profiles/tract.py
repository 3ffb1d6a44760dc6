"""tract, in Rust, measured at 0.23."""

from __future__ import annotations

from dataclasses import replace

from quant_core.precision import DataType
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.tensors import NO_VALUE_INFO, types_among

__all__ = ["TRACT"]

_BYTES = frozenset({DataType.INT8, DataType.UINT8})

TRACT = replace(
    REFERENCE,
    name="tract",
    title="tract (Rust): 8 bits only",
    assumes="tract computes what they say",
    activations=_BYTES,
    weights=_BYTES,
    weights_alone=_BYTES,
    rules=(*REFERENCE.rules, types_among(_BYTES, _BYTES), NO_VALUE_INFO),
    numbers="It has no types of 16 and 4 bits, for activations and weights alike. Scored as the pairs say, from which "
    "it differs by single codes.",
    recurrent="They are computed in float, as the pairs say. (Measured at 0.23.9; 0.23.0 takes the first scale of a "
    "weight for all its channels, in every operator.)",
    has_value_info=False,
    looks_up_codes=False,
)
