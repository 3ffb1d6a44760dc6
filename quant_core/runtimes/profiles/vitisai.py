"""AMD's NPUs through ONNX Runtime's VitisAI provider: pairs at opset 17, scales that are powers of two."""

from __future__ import annotations

from dataclasses import replace

from quant_core.precision import DataType
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.tensors import (
    POWER_OF_TWO_SCALES,
    ZERO_POINTS_ARE_0,
    opset_up_to,
    types_among,
    weights_alone_among,
)

__all__ = ["VITISAI"]

_ACTIVATIONS = frozenset({DataType.INT8, DataType.INT16})
_WEIGHTS = frozenset({DataType.INT8})
_OPSET = 17

VITISAI = replace(
    REFERENCE,
    name="vitisai",
    title="AMD NPUs (ONNX Runtime's VitisAI provider): opset 17, scales that are powers of two",
    assumes="the NPU computes what they say",
    activations=_ACTIVATIONS,
    weights=_WEIGHTS,
    weights_alone=frozenset(),
    rules=(
        *REFERENCE.rules,
        opset_up_to(_OPSET),
        types_among(_ACTIVATIONS, _WEIGHTS),
        weights_alone_among(frozenset(), "slow"),
        ZERO_POINTS_ARE_0,
        POWER_OF_TWO_SCALES,
    ),
    newest_opset=_OPSET,
    recurrent="What it does with quantized ones is not known here, so they stay in float.",
    numbers="Its compiler takes models of opset 17, so 16 bits are written with pairs of com.microsoft. Scored as the "
    "pairs say.",
    options={
        "pairs": ("com.microsoft",),
        "calibrate": ("pow2-nonoverflow", "pow2-minmse"),
        "symmetric": (True,),
        "format": ("qdq",),
    },
)
