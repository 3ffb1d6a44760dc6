"""Writes Q/DQ pairs, Casts and stored constants, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.errors import UnsupportedError
from quant_core.model.opset import opset_of
from quant_core.numerics import QParams, dequantize
from quant_core.precision import DataType
from quant_core.quantization.half_scales import held_in_half
from quant_core.quantization.plan_graph.made_names import shared_zero_point

__all__ = ["PairWriter", "edge_mark"]

if TYPE_CHECKING:
    from quant_core.quantization.plan_graph.qdq import PlanWriter

_BFLOAT16_OPSET = 13
"""The first opset whose Cast takes bfloat16."""


def edge_mark(dtype: DataType) -> str:
    """Return how a type is written in the name of what it holds."""
    return dtype.code if dtype.is_float else f"a{dtype.code}"


class PairWriter:
    """The nodes written so far, each with the float node for whose sake it was written."""

    def __init__(self, writer: PlanWriter) -> None:
        self.writer = writer
        self.quantizer = writer.quantizer
        self.graph = writer.quantizer.graph
        self.nodes: list[onnx.NodeProto] = []
        """In topological order."""
        self.units: list[int] = []
        """For each of them the number of its float node."""
        self.consumers: dict[str, list[int]] = {}
        """By what is written once, the numbers of the float nodes that needed it, the first of which wrote it."""
        self.unit = 0
        """The number of the float node being written."""

    def is_written(self, result: str) -> bool:
        """Return whether what is written once has been; if not, it is now."""
        units = self.consumers.setdefault(result, [])
        units.append(self.unit)
        return len(units) > 1

    def append(self, node: onnx.NodeProto) -> None:
        """Put a node at the end, as one of the float node being written."""
        self.nodes.append(node)
        self.units.append(self.unit)

    def pair(self, source: str, tensor: str, dtype: DataType, final: str | None = None) -> str:
        """Write `source` through a pair with the tensor's range in a type, once; the name of the result."""
        if dtype in self.writer.unrounded and final is None:
            return source
        result = final or self.writer.made(f"{tensor}/{edge_mark(dtype)}")
        if self.is_written(result):
            return result
        if dtype in self.writer.unrounded:
            self.append(self.writer.node("Identity", [source], [result]))
        elif dtype.is_float:
            self.quantizer.check_tensor_fits(tensor, dtype)
            self.append(self.writer.node("Cast", [source], [f"{result}/rounded"], to=self.castable(dtype).onnx_type))
            self.cast_back(f"{result}/rounded", result)
        else:
            prefix = self.writer.made(f"{self.quantizer.range_key(tensor)}/{edge_mark(dtype)}")
            scale, zero = self.qparams(prefix, self.quantizer.activation(tensor, dtype))
            codes = self.writer.made(f"{result}/codes") if final else f"{result}/codes"
            self.append(self.writer.node("QuantizeLinear", [source, scale, zero], [codes]))
            self.append(self.writer.node("DequantizeLinear", [codes, scale, zero], [result]))
        return result

    def cast_back(self, source: str, result: str) -> None:
        """Write a Cast to float32."""
        self.append(self.writer.node("Cast", [source], [result], to=DataType.FLOAT32.onnx_type))

    def castable(self, dtype: DataType) -> DataType:
        """The type, if the model's Cast knows it."""
        if dtype is DataType.BFLOAT16 and opset_of(self.graph.model) < _BFLOAT16_OPSET:
            raise UnsupportedError(
                f"bfloat16 needs opset {_BFLOAT16_OPSET}, and the model stays at {opset_of(self.graph.model)}: "
                "use float16"
            )
        return dtype

    def rounded(self, name: str, dtype: DataType) -> str:
        """Write a constant held in a floating-point type, once: folded into float32, or behind a Cast."""
        if dtype is DataType.FLOAT32:
            return name
        result = self.writer.made(f"{name}/{dtype.code}")
        if self.writer.folded:
            if result not in self.writer.constants:
                self.writer.constants[result] = self.quantizer.rounded(name, dtype).astype(np.float32)
        elif not self.is_written(result):
            self.writer.constants[f"{result}/rounded"] = self.quantizer.rounded(name, self.castable(dtype))
            self.cast_back(f"{result}/rounded", result)
        return result

    def stored(
        self, result: str, codes: NDArray[np.generic], qparams: QParams, axis: int | None, says_zero: bool = True
    ) -> str:
        """Write a constant held as codes, once: folded into its values, or behind a DequantizeLinear.

        Zero points of 0 are left out of some types, and with `says_zero` off of all.
        """
        if self.writer.folded:
            if result not in self.writer.constants:
                self.writer.constants[result] = dequantize(codes, qparams, axis)
        elif not self.is_written(result):
            self.writer.constants[f"{result}/codes"] = codes
            # ONNX Runtime may change the codes of weights, and the zero point of each with them; but not of biases.
            scale, zero = self.qparams(result, qparams, shares_zero=qparams.dtype is DataType.INT32)
            half = held_in_half(qparams, self.quantizer.config)
            if half is not None:
                scale = self.cast_scale(scale, half)
            attributes = {} if axis is None else {"axis": axis}
            if qparams.block is not None:
                attributes["block_size"] = qparams.block
            is_left_out = not (qparams.zero_point.any() or (says_zero and qparams.dtype not in _WITHOUT_ZERO))
            inputs = [f"{result}/codes", scale, *([] if is_left_out else [zero])]
            self.append(self.writer.node("DequantizeLinear", inputs, [result], **attributes))
        return result

    def cast_scale(self, name: str, half: NDArray[np.float16]) -> str:
        """Write a scale that is held in float16, with a Cast behind it; the name of what that gives."""
        self.writer.constants[f"{name}/rounded"] = half
        self.cast_back(f"{name}/rounded", f"{name}/float32")
        return f"{name}/float32"

    def qparams(self, prefix: str, qparams: QParams, shares_zero: bool = True) -> tuple[str, str]:
        """Names of the constants that hold a scale and a zero point.

        Zero points that are 0 are one constant for each type and shape, unless that is not allowed: files are smaller.
        """
        scale, zero = f"{prefix}/scale", f"{prefix}/zero_point"
        if shares_zero and not qparams.zero_point.any():
            zero = self.writer.made(shared_zero_point(qparams.dtype, qparams.zero_point.shape))
        if scale not in self.writer.constants:
            self.writer.constants[scale] = qparams.scale
            self.writer.constants[zero] = qparams.zero_point.astype(qparams.dtype.numpy_type)
        return scale, zero


_WITHOUT_ZERO = (DataType.INT4, DataType.INT2)
"""Types whose zero points of 0 are not written: that saves half a byte a channel. Biases have theirs, since ONNX
Runtime does not write a model in its own format (`.ort`) with optimizations for run time where one is missing."""
