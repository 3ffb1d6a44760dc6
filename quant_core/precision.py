"""The vocabulary of a plan: data types, precisions (pairs of types) and the plan itself.

numpy and onnx are imported where a type needs them, so that options can be read without them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from quant_core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ACTIVATION_TYPES", "PER_TENSOR", "WEIGHT_TYPES", "DataType", "Precision", "PrecisionField", "PrecisionPlan"]


class DataType(Enum):
    """A type that activations or weights are stored in."""

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


_SMALLEST_BLOCK = 16
"""Inputs that share a scale, at least: runtimes have kernels for no fewer."""
PER_TENSOR = 0
"""A block that is the whole weight, which then has one scale."""
_PER_CHANNEL = 2**31  # longer than any block of inputs, and shorter than the whole weight
_BY_CODE = {kind.code: kind for kind in DataType}
_FLOATS = tuple(kind for kind in DataType if kind.is_float)
_PATTERN = re.compile(rf"(?:a(u?\d+)|({'|'.join(kind.code for kind in _FLOATS)}))(?:w(u?\d+)(?:b([1-9]\d*)|(t))?)?")
ACTIVATION_TYPES = (DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16)
"""Integer types that activations may have."""
WEIGHT_TYPES = (DataType.INT4, DataType.UINT4, *ACTIVATION_TYPES)
"""Integer types that weights may have."""


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
        if activations not in (*ACTIVATION_TYPES, *_FLOATS) or weights is None or not is_known:
            floats = " ".join(kind.code for kind in _FLOATS)
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
        f"(a({'|'.join(kind.code for kind in ACTIVATION_TYPES)})|{'|'.join(kind.code for kind in _FLOATS)})"
        f"w({'|'.join(kind.code for kind in WEIGHT_TYPES)})(b[1-9][0-9]*|t)?",
        *(kind.code for kind in _FLOATS),
    ]
)

PrecisionField = Annotated[
    Precision,
    PlainValidator(_parse_for_pydantic),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^({_WRITTEN})$", "examples": ["a16w8", "a8w8"]}),
]
"""A Precision inside a pydantic model: read from and written as its text."""


@dataclass(frozen=True)
class PrecisionPlan:
    """Which precision each layer computes in; every layer of the model is named, in graph order."""

    layers: tuple[tuple[str, Precision], ...]
    """(layer name, precision) pairs in graph order."""
    tensors: tuple[tuple[str, DataType], ...] = ()
    """(tensor name, type) pairs of the tensors whose type the plan says itself; that of all others follows."""

    @classmethod
    def uniform(cls, names: Iterable[str], precision: Precision) -> Self:
        """The plan that gives every layer the same precision."""
        return cls(tuple((name, precision) for name in names))

    def narrowed(self, moves: Mapping[str, Precision]) -> PrecisionPlan:
        """This plan with the named layers at new precisions; raises InputError for an unknown layer."""
        known = {name for name, _ in self.layers}
        unknown = [name for name in moves if name not in known]
        if unknown:
            raise InputError(f"the plan has no layer {unknown[0]!r}; `narrowcast inspect` lists the layers")
        return replace(self, layers=tuple((name, moves.get(name, precision)) for name, precision in self.layers))

    def with_float(self, tensors: Iterable[str]) -> PrecisionPlan:
        """This plan with these tensors in float32."""
        return replace(self, tensors=(*self.tensors, *((name, DataType.FLOAT32) for name in tensors)))

    def changed_from(self, other: PrecisionPlan) -> list[str]:
        """Names of the layers whose precision differs from `other`, in graph order."""
        before = dict(other.layers)
        return [name for name, precision in self.layers if before.get(name) != precision]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Every precision that a layer has, in the order of the layers."""
        return tuple(dict.fromkeys(precision for _, precision in self.layers))

    def lifted_above(self, wide: Precision) -> list[str]:
        """Names of the layers whose precision is wider than `wide`, in graph order."""
        return [name for name, precision in self.layers if wide.narrower_than(precision)]

    def narrowed_from(self, wide: Precision) -> list[str]:
        """Names of the layers that have neither `wide` nor a wider precision, in graph order."""
        return [name for name, one in self.layers if one != wide and not wide.narrower_than(one)]

    def beside(self, wide: Precision) -> str:
        """Say in a few words what differs from all layers at `wide`: `9 of 14 layers narrowed (3 at a8w4)`."""
        narrowed, lifted = self.narrowed_from(wide), self.lifted_above(wide)
        floats = sum(kind.is_float for _, kind in self.tensors)
        said = []
        if narrowed:
            said.append(f"{len(narrowed)} of {len(self.layers)} layers narrowed{self._steps_down(narrowed)}")
        if lifted:
            above = sorted({dict(self.layers)[name] for name in lifted}, key=str)
            said.append(f"{len(lifted)} lifted to {' and '.join(map(str, above))}")
        if floats:
            said.append(f"{floats} tensor{'s' * (floats > 1)} in float")
        return ", ".join(said) or "all layers wide"

    def _steps_down(self, narrowed: Sequence[str]) -> str:
        """Say how many of the narrowed layers are at which precision, where there are several."""
        precisions = dict(self.layers)
        used = Counter(precisions[name] for name in narrowed)
        by_size = sorted(used, key=lambda one: (-one.bit_product, str(one)))
        return f" ({', '.join(f'{used[one]} at {one}' for one in by_size)})" if len(used) > 1 else ""

    def as_dict(self) -> dict[str, str]:
        """Layer name to written precision, in graph order."""
        return {name: str(precision) for name, precision in self.layers}

    def tensor_types(self) -> dict[str, str]:
        """Tensor name to written type, of the tensors the plan names."""
        return {name: str(kind) for name, kind in self.tensors}

    @classmethod
    def from_dict(cls, precisions: Mapping[str, str], tensors: Mapping[str, str] | None = None) -> Self:
        """The inverse of `as_dict` and `tensor_types`."""
        named = tuple((name, DataType.parse(text)) for name, text in (tensors or {}).items())
        return cls(tuple((name, Precision.parse(text)) for name, text in precisions.items()), named)

    @property
    def digest(self) -> str:
        """Sha256 of the plan's written form."""
        written = [self.as_dict(), self.tensor_types()] if self.tensors else self.as_dict()
        return hashlib.sha256(json.dumps(written).encode()).hexdigest()

    def __str__(self) -> str:
        rows = [*self.layers, *self.tensors]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {kind}" for name, kind in rows)
