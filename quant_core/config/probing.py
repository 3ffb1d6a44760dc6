"""Which layers are probed, at which precisions, and on how many samples."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quant_core.config.frozen import FrozenModel
from quant_core.flags import Flag, Heading
from quant_core.precision import Precision, PrecisionField

__all__ = ["ProbeConfig", "default_narrow"]


def default_narrow(wide: Precision | None) -> tuple[Precision, ...]:
    """Return the precisions that a search may choose beside a wide one, where nobody says which.

    A mix with float32 is for a CPU, and those multiply unsigned activations by signed weights.
    """
    return (Precision.parse("au8w8" if str(wide) == "float32" else "a8w8"),)


class ProbeConfig(FrozenModel):
    """Which layers are probed, at which precisions, and on how many samples."""

    narrow: Annotated[tuple[PrecisionField, ...], Flag(Heading.PRECISIONS, "PRECISIONS")] = Field(
        default_factory=lambda: default_narrow(None),
        json_schema_extra={"default": ["a8w8"]},
        min_length=1,
        description="The precisions the search may choose, each narrower than the one before. Beside a wide float32 "
        "au8w8 by default, for the sake of CPUs.",
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
