"""Apache TVM, through its ONNX frontend for Relax, measured at 0.27."""

from __future__ import annotations

from dataclasses import replace

from quant_core.precision import DataType
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.tensors import no_blocks, types_among

__all__ = ["TVM"]

_TYPES = frozenset({DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16})

TVM = replace(
    REFERENCE,
    name="tvm",
    title="Apache TVM: 8 and 16 bits",
    assumes="TVM computes what they say",
    activations=_TYPES,
    weights=_TYPES,
    weights_alone=_TYPES,
    rules=(*REFERENCE.rules, types_among(_TYPES, _TYPES), no_blocks("refused")),
    numbers="It computes what pairs of 8 and 16 bits say, of either domain, and adds up in another order: single codes "
    "differ. A constant of 4 or 2 bits stops its frontend. Scored as the pairs say.",
    recurrent="Its frontend has none of them, quantized or not.",
    options={"block_size": (None,)},
    looks_up_codes=False,
)
