"""TensorRT's explicit quantization: symmetric int8 beside floats."""

from __future__ import annotations

from dataclasses import replace

from quant_core.precision import DataType
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.tensors import FLOAT_BIASES, ZERO_POINTS_ARE_0, types_among, weights_alone_among

__all__ = ["TENSORRT"]

_INT8 = frozenset({DataType.INT8})

TENSORRT = replace(
    REFERENCE,
    name="tensorrt",
    title="TensorRT: symmetric int8 beside float16 or float32",
    assumes="TensorRT computes what they say",
    activations=_INT8,
    weights=_INT8,
    weights_alone=frozenset(),
    rules=(
        *REFERENCE.rules,
        types_among(_INT8, _INT8),
        weights_alone_among(frozenset()),
        ZERO_POINTS_ARE_0,
        FLOAT_BIASES,
    ),
    recurrent="What it does with quantized ones is not known here, so they stay in float.",
    numbers="Layers between pairs become int8 kernels, which add the float bias before they round once; layers "
    "without pairs are float. Scored as the pairs say.",
    options={"symmetric": (True,), "biases": ("float32",), "pairs": ("standard",), "format": ("qdq",)},
)
