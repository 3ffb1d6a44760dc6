"""A pair of types that a layer computes in: parsed, compared, written as text, and as a field of a pydantic model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from quant_core.errors import InputError
from quant_core.precision.data_type import ACTIVATION_TYPES, FLOAT_TYPES, WEIGHT_TYPES, DataType

__all__ = ["PER_TENSOR", "Precision", "PrecisionField"]


_SMALLEST_BLOCK = 16
"""Inputs that share a scale, at least: runtimes have kernels for no fewer."""
PER_TENSOR = 0
"""A block that is the whole weight, which then has one scale."""
_PER_CHANNEL = 2**31  # longer than any block of inputs, and shorter than the whole weight
_BY_CODE = {kind.code: kind for kind in DataType}
_PATTERN = re.compile(rf"(?:a(u?\d+)|({'|'.join(kind.code for kind in FLOAT_TYPES)}))(?:w(u?\d+)(?:b([1-9]\d*)|(t))?)?")


@dataclass(frozen=True)
class Precision:
    """A pair of types a layer computes in, written `a16w8` (`au8w8` for uint8 activations).

    A floating-point type alone stands for both: `float32`, `float16`, `bfloat16`. With a type of weights behind it,
    `float32w8`, only the weight is held in codes: the layer multiplies what they stand for in float. In `float32w4b32`
    every 32 inputs share a scale, in weights that have blocks; in `a16w8t` the whole weight has one.
    """

    activations: DataType
    """Type of the tensors the layer reads."""
    weights: DataType
    """Type of the layer's weight."""
    block: int | None = None
    """How many inputs share a scale in weights that have blocks; None: as many as `block_size` says; or PER_TENSOR."""

    @classmethod
    def parse(cls, text: str | Precision) -> Precision:
        """Read a precision from its written form; raises InputError on anything else."""
        if isinstance(text, Precision):
            return text
        match = _PATTERN.fullmatch(str(text))
        integer, floating, coded, block, whole = match.groups() if match else (None,) * 5
        activations = _BY_CODE.get(integer or floating or "")
        weights = activations if floating and not coded else _BY_CODE.get(coded or "")
        is_known = weights in WEIGHT_TYPES or (weights is activations and floating)
        if activations not in (*ACTIVATION_TYPES, *FLOAT_TYPES) or weights is None or not is_known:
            floats = " ".join(kind.code for kind in FLOAT_TYPES)
            raise InputError(
                f"precision {text!r} is not known: write a16w8, a8w8, au8w8, a8w4, ... "
                f"(activations {_codes('a', ACTIVATION_TYPES)}; weights {_codes('w', WEIGHT_TYPES)}), "
                f"float32w8, float16w4, ... for codes of weights alone, float32w4b32 with a scale for 32 inputs each, "
                f"a16w8t with one for the whole weight, or a float type for both ({floats})"
            )
        found = cls(activations, weights, PER_TENSOR if whole else None if block is None else int(block))
        found._check_block()
        return found

    def _check_block(self) -> None:
        if not self.block:
            return
        if not self.takes_blocks:
            raise InputError(
                f"precision {self}: blocks are for 4-bit weights, and for 8-bit ones beside floats; "
                f"leave b{self.block} out"
            )
        if self.block < _SMALLEST_BLOCK or self.block & (self.block - 1):
            raise InputError(
                f"precision {self}: a block is a power of two from {_SMALLEST_BLOCK} on, which runtimes ask for"
            )

    @property
    def bit_product(self) -> int:
        """Activation bits times weight bits: the cost of one multiply-accumulate in bit operations."""
        return self.activations.bits * self.weights.bits

    def narrower_than(self, other: Precision) -> bool:
        """Return whether this precision has no more bits than `other` on either side and fewer on one.

        Of two with the same bits it is the one of fewer scales: of longer blocks, without any, or with one scale.
        """
        mine = (self.activations.bits, self.weights.bits)
        theirs = (other.activations.bits, other.weights.bits)
        if mine == theirs:
            return self._values_a_scale > other._values_a_scale
        return all(a <= b for a, b in zip(mine, theirs, strict=True))

    @property
    def _values_a_scale(self) -> float:
        return _PER_CHANNEL if self.block is None else self.block or math.inf

    def sides(self, wide: Precision) -> tuple[Precision, Precision]:
        """This precision of integers with its activations alone narrow, and with its weights alone.

        The other side is that of `wide`; 16 bits stand for a wide float, which no precision has on one side only.
        """
        activations, weights = (DataType.INT16 if kind.is_float else kind for kind in (wide.activations, wide.weights))
        return Precision(self.activations, weights), Precision(activations, self.weights, self.block)

    def reading(self, activations: DataType) -> Precision:
        """Return this precision with other activations, and without blocks where those take none."""
        found = replace(self, activations=activations)
        return found if found.takes_blocks or not self.block else replace(found, block=None)

    @property
    def is_float(self) -> bool:
        """Whether activations and weights are both held in a floating-point type."""
        return self.weights.is_float

    @property
    def is_weight_only(self) -> bool:
        """Whether the weight is held in codes, and what the layer reads in a floating-point type."""
        return self.activations.is_float and not self.weights.is_float

    @property
    def takes_blocks(self) -> bool:
        """Whether inputs may share a scale in blocks: in 4 bits, and in 8 beside floats."""
        return self.weights.bits == 4 or (self.is_weight_only and self.weights.bits == 8)

    @property
    def why_not_integer(self) -> str:
        """Why ONNX Runtime has no integer operators for layers of this precision; empty if it has, or needs none."""
        bytes_only = {self.activations, self.weights} <= {DataType.INT8, DataType.UINT8}
        if bytes_only or self == Precision(DataType.FLOAT32, DataType.FLOAT32):
            return ""
        return (
            f"ONNX Runtime has integer operators for 8-bit types only, not for {self}; use a8w8 or au8w8, beside "
            "float32 if need be, or the format qdq"
        )

    def __str__(self) -> str:
        activations = self.activations.code if self.activations.is_float else f"a{self.activations.code}"
        blocks = "" if self.block is None else f"b{self.block}" if self.block else "t"
        return activations if self.is_float else f"{activations}w{self.weights.code}{blocks}"


def _codes(prefix: str, kinds: Iterable[DataType]) -> str:
    return " ".join(f"{prefix}{kind.code}" for kind in kinds)


def _parse_for_pydantic(value: object) -> Precision:
    # pydantic turns a ValueError into a message that names the field; InputError would pass by it.
    try:
        return Precision.parse(value)  # type: ignore[arg-type]
    except InputError as error:
        raise ValueError(str(error)) from error


_WRITTEN = "|".join(
    [
        f"(a({'|'.join(kind.code for kind in ACTIVATION_TYPES)})|{'|'.join(kind.code for kind in FLOAT_TYPES)})"
        f"w({'|'.join(kind.code for kind in WEIGHT_TYPES)})(b[1-9][0-9]*|t)?",
        *(kind.code for kind in FLOAT_TYPES),
    ]
)

PrecisionField = Annotated[
    Precision,
    PlainValidator(_parse_for_pydantic),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^({_WRITTEN})$", "examples": ["a16w8", "a8w8"]}),
]
"""A Precision inside a pydantic model: read from and written as its text."""
