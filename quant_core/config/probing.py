"""Which layers are probed, at which precisions, and on how many samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quant_core.config.frozen import FrozenModel
from quant_core.flags import Flag, Heading
from quant_core.precision import PER_TENSOR, Precision, PrecisionField

__all__ = ["ProbeConfig", "default_narrow", "with_tensor_scales"]


def default_narrow(wide: Precision | None) -> tuple[Precision, ...]:
    """Return the precisions that a search may choose beside a wide one by default.

    A mix with float32 is for a CPU, and those multiply unsigned activations by signed weights.
    """
    return (Precision.parse("au8w8" if str(wide) == "float32" else "a8w8"),)


def with_tensor_scales(wide: Precision, narrow: Sequence[Precision]) -> tuple[Precision, ...]:
    """Return precisions with those of one scale a weight, where there are none: they take fewer bytes at the same bits.

    Each type of weights beside integer activations has one, at the widest activations it has.
    """
    ladder = (wide, *narrow)
    if any(one.block is not None for one in ladder):
        return tuple(narrow)
    first = {one.weights: one for one in reversed(ladder) if not one.activations.is_float and one.weights.bits <= 8}
    return tuple(
        rung
        for one in ladder
        for rung in (one, *([replace(one, block=PER_TENSOR)] if first.get(one.weights) is one else []))
    )[1:]


class ProbeConfig(FrozenModel):
    """Which layers are probed, at which precisions, and on how many samples."""

    narrow: Annotated[tuple[PrecisionField, ...], Flag(Heading.PRECISIONS, "PRECISIONS")] = Field(
        default_factory=lambda: default_narrow(None),
        json_schema_extra={"default": ["a8w8"]},
        min_length=1,
        description="The precisions the search may choose, each narrower than the one before. Beside a wide float32 "
        "au8w8 by default, for the sake of CPUs. Where bytes are saved, those with one scale for the whole weight come "
        "in between (`a16w8t`, `a8w4t`).",
    )
    keep_wide: Annotated[tuple[str, ...], Flag(Heading.PRECISIONS, "LAYERS")] = Field(
        default=(), description="Layers that no plan narrows, by name, pattern (`/stem/*`) or operator (`op:Conv`)."
    )
    samples: Annotated[Literal["auto", "all"] | int, Flag(Heading.SEARCH, "auto|all|N")] = Field(
        default="auto",
        description="Evaluation samples a probe uses. As many as the ranking needs, all, or so many.",
    )

    @model_validator(mode="after")
    def _samples_are_some(self) -> Self:
        if isinstance(self.samples, int) and self.samples < 2:
            raise ValueError(f"samples must be 'auto', 'all' or at least 2, not {self.samples}")
        return self
