"""The types that activations and weights are stored in.

numpy and onnx are imported where a type needs them, so that options can be read without them.
"""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from quant_core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ACTIVATION_TYPES", "FLOAT_TYPES", "WEIGHT_TYPES", "DataType"]


class DataType(Enum):
    """A type that activations or weights are stored in."""

    INT2 = ("2", 2)
    UINT2 = ("u2", 2)
    INT4 = ("4", 4)
    UINT4 = ("u4", 4)
    INT8 = ("8", 8)
    UINT8 = ("u8", 8)
    INT16 = ("16", 16)
    UINT16 = ("u16", 16)
    INT32 = ("32", 32)
    FLOAT32 = ("float32", 32)
    FLOAT16 = ("float16", 16)
    BFLOAT16 = ("bfloat16", 16)

    # Plans are looked up by the types of all their layers, and Enum's own hash is a call of Python.
    __hash__ = object.__hash__

    def __init__(self, code: str, bits: int) -> None:
        self.code = code
        """How the type is written inside a precision: `8` is int8, `u8` is uint8; a float by its name."""
        self.bits = bits
        """Width in bits, as the cost models count it."""

    @cached_property
    def onnx_type(self) -> int:
        """The `onnx.TensorProto.DataType` value."""
        import onnx

        return int(onnx.TensorProto.DataType.Value("FLOAT" if self is DataType.FLOAT32 else self.name))

    @cached_property
    def numpy_type(self) -> np.dtype[Any]:
        """The numpy dtype codes of this type are held in."""
        import ml_dtypes
        import numpy as np

        name = str(self)
        kind: type = getattr(ml_dtypes if hasattr(ml_dtypes, name) else np, name)
        return np.dtype(kind)

    @classmethod
    def parse(cls, text: str) -> DataType:
        """Read a type from its name, `int8`; raises InputError on anything else."""
        found = cls.__members__.get(str(text).upper())
        if found is None:
            names = ", ".join(str(kind) for kind in cls)
            raise InputError(f"type {text!r} is not known: there are {names}")
        return found

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def first_opset(self) -> int:
        """The first opset whose standard pairs take this integer type."""
        return {2: 25, 4: 21, 16: 21}.get(self.bits, 10)

    @property
    def is_float(self) -> bool:
        """Whether values of this type are held as they are, rounded, without a scale."""
        return self.code.endswith(("float32", "float16"))

    @property
    def largest_float(self) -> float:
        """Largest finite value of a floating-point type."""
        import ml_dtypes

        return float(ml_dtypes.finfo(self.numpy_type).max)  # type: ignore[no-untyped-call]

    @property
    def signed(self) -> bool:
        """Whether codes may be negative."""
        return not self.code.startswith("u")

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code; codes saturate there."""
        if self.signed:
            return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        return 0, 2**self.bits - 1


ACTIVATION_TYPES = (DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16)
"""Integer types that activations may have."""

WEIGHT_TYPES = (DataType.INT2, DataType.UINT2, DataType.INT4, DataType.UINT4, *ACTIVATION_TYPES)
"""Integer types that weights may have."""
FLOAT_TYPES = tuple(kind for kind in DataType if kind.is_float)
"""Types whose values are held as they are, rounded, without a scale."""
