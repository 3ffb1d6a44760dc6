"""Which precision each layer of a model computes in."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from quant_core.errors import InputError
from quant_core.precision.data_type import DataType
from quant_core.precision.precision import Precision

__all__ = ["PrecisionPlan"]


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
