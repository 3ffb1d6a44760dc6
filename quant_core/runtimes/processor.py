"""What the processor of this machine can do that changes what quantized models compute."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from quant_core.model.sessions import CPU

__all__ = ["adds_bytes_in_32_bits", "processor_abilities", "processor_name"]

_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "asimddp", "amx_int8")
"""Instructions that add up products of 8-bit codes in 32 bits, as Linux calls them."""
_SUMMED = 64


@cache
def processor_abilities() -> tuple[str, ...]:
    """Return the instructions of _DOT_PRODUCTS that this processor has; empty where the system does not say."""
    flags = _told("flags", "Features").split()
    return tuple(name for name in _DOT_PRODUCTS if name in flags)


def processor_name() -> str:
    """Return the name of this machine's processor, and those of its abilities that change numbers, as far as known."""
    known = f"{platform.machine()} {_told('model name') or platform.processor()}".strip()
    return " ".join([known, *processor_abilities()])


def _told(*names: str) -> str:
    """Return what Linux says of the processor under the first of some names that is there; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(names))
    return next(filter(None, found), "")


@cache
def adds_bytes_in_32_bits() -> bool:
    """Return whether ONNX Runtime's sums of products of 8-bit codes do not saturate here: one is computed to see."""
    read, weight = np.full((8, _SUMMED), 255, np.uint8), np.full((_SUMMED, 16), 127, np.int8)
    value = onnx.helper.make_tensor_value_info
    product = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [value("x", onnx.TensorProto.UINT8, read.shape)],
        [value("y", onnx.TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(product, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=list(CPU))
    return bool((session.run(None, {"x": read})[0] == _SUMMED * 255 * 127).all())
