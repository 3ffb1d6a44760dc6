"""Names of AMD Quark for types, formats and methods, each with what it is here."""

from __future__ import annotations

from enum import Enum

from quant_core.precision import DataType

__all__ = [
    "CalibrationMethod",
    "PowerOfTwoMethod",
    "QuantFormat",
    "QuantType",
    "VitisQuantFormat",
    "VitisQuantType",
]


class QuantType(Enum):
    """Types of activations and weights, as ONNX Runtime spells them."""

    QInt4 = DataType.INT4
    QUInt4 = DataType.UINT4
    QInt8 = DataType.INT8
    QUInt8 = DataType.UINT8
    QInt16 = DataType.INT16
    QUInt16 = DataType.UINT16


class VitisQuantType(Enum):
    """The types that Quark adds."""

    QInt16 = DataType.INT16
    QUInt16 = DataType.UINT16
    QInt32 = DataType.INT32
    QFloat16 = DataType.FLOAT16
    QBFloat16 = DataType.BFLOAT16


class QuantFormat(Enum):
    """How a quantized model is written: with QuantizeLinear/DequantizeLinear pairs, or with integer operators."""

    QDQ = "QDQ"
    QOperator = "QOperator"


class VitisQuantFormat(Enum):
    """The formats that Quark adds; its QDQ is that of ONNX."""

    QDQ = "QDQ"
    FixNeuron = "FixNeuron"


class CalibrationMethod(Enum):
    """How ranges are chosen."""

    MinMax = "minmax"
    Percentile = "percentile"
    Entropy = "entropy"
    Distribution = "distribution"


class PowerOfTwoMethod(Enum):
    """How ranges are chosen where scales are powers of two."""

    NonOverflow = "pow2-nonoverflow"
    MinMSE = "pow2-minmse"
