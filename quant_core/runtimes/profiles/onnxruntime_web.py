"""ONNX Runtime in a browser (WebAssembly), measured at onnxruntime-web 1.30."""

from __future__ import annotations

from dataclasses import replace

from quant_core.precision import DataType
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.products import NO_ROUNDED_WEIGHTS

__all__ = ["ONNXRUNTIME_WEB"]

_TWO_BITS = {DataType.INT2, DataType.UINT2}  # not tried there
ONNXRUNTIME_WEB = replace(
    REFERENCE,
    name="onnxruntime-web",
    title="ONNX Runtime in a browser (WebAssembly)",
    assumes="the browser computes what they say",
    numbers="It runs all that is written, and sums of 8-bit products do not saturate there. A few codes in a hundred "
    "differ, because it adds up in another order; scored as the pairs say.",
    weights=REFERENCE.weights - _TWO_BITS,
    weights_alone=REFERENCE.weights_alone - _TWO_BITS,
    rules=(*REFERENCE.rules, NO_ROUNDED_WEIGHTS),
    rounds_float_weights=True,
)
