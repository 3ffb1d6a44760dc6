"""ONNX Runtime on processors that add up products of bytes in 32 bits: x86 with VNNI, ARM."""

from __future__ import annotations

from dataclasses import replace

from quant_core.runtimes.profiles.onnxruntime import ONNXRUNTIME
from quant_core.runtimes.rules.products import BYTE_SUMS_IN_RANGE, INT8_BESIDE_INT8

__all__ = ["ONNXRUNTIME_VNNI"]

ONNXRUNTIME_VNNI = replace(
    ONNXRUNTIME,
    name="onnxruntime-vnni",
    title="ONNX Runtime on a CPU with VNNI, or ARM: int8 weights as they are, the fastest",
    assumes="the processor has VNNI (x86) or is ARM; on other x86 processors sums of int8 products saturate",
    rules=(*(rule for rule in ONNXRUNTIME.rules if rule is not BYTE_SUMS_IN_RANGE), INT8_BESIDE_INT8),
    rules_elsewhere=(BYTE_SUMS_IN_RANGE,),
    keeps_byte_sums_in_range=False,
)
