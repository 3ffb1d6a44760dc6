"""How much of the model is narrower than the wide one, and what stays in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from quant_core.manifest.record import Record

__all__ = ["FloatTensor", "Narrowed", "OtherOperators"]


class OtherOperators(Record):
    """Operators of one type that multiply and are no layers."""

    op: str
    """Operator type."""
    nodes: int
    """How many there are."""
    precision: Literal["float", "wide"]
    """What they compute in."""
    macs_share: float | None
    """Share of all multiply-accumulates that they have; none where they cannot be counted."""
    why: str
    """Why they are no layers."""


class FloatTensor(Record):
    """A tensor that stays in float, where the wide model misses the target without that."""

    name: str
    """Its name in the prepared model."""
    alike: tuple[str, ...] = ()
    """Tensors with the same values, moved: they have one scale, and stay in float with it."""
    share: float | None = None
    """Share of what all tensors lose that are quantized each alone; none where it leads to an infinity or a NaN."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name and those of the tensors alike."""
        return (self.name, *self.alike)


class Narrowed(Record):
    """How much of the model is narrower than the wide one."""

    layers: int
    """Layers that are."""
    of: int
    """All layers, and all other operators that multiply."""
    macs_share: float
    """Share of all multiply-accumulates that those layers have."""
    bops_ratio: float
    """Bit operations of the model, as a share of the wide model's."""
    others: tuple[OtherOperators, ...] = ()
    """Operators that multiply and are no layers: in all shares, and the same in every plan."""
    lifted: int = 0
    """Layers that are wider than the wide precision, without which the target is missed."""
    slow: Mapping[str, str] = Field(default_factory=dict)
    """Layers that no plan narrows since they would be slower in the runtime: what each is, by its name."""
