"""The configuration of an analysis: which losses are measured, and how numbers are chosen."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quant_core.config.probing import ProbeConfig
from quant_core.config.run import RunConfig
from quant_core.flags import Flag, Heading
from quant_core.precision import Precision, PrecisionField

__all__ = ["AnalysisConfig"]


class AnalysisConfig(RunConfig, ProbeConfig):
    """The configuration of an analysis of a model: no target, no search."""

    wide: Annotated[PrecisionField, Flag(Heading.PRECISIONS, "PRECISION")] = Field(
        default_factory=lambda: Precision.parse("a16w16"),
        json_schema_extra={"default": "a16w16"},
        description="Precision of all layers but the one that is probed. At a16w16 losses are nearly those to the "
        "float model.",
    )
    narrow: Annotated[tuple[PrecisionField, ...], Flag(Heading.PRECISIONS, "PRECISIONS")] = Field(
        default_factory=lambda: (Precision.parse("a16w8"), Precision.parse("a8w8")),
        json_schema_extra={"default": ["a16w8", "a8w8"]},
        min_length=1,
        description="The precisions that each layer is probed at.",
    )
    rank: Annotated[Literal["mse", "kl"], Flag(Heading.SEARCH, "LOSS")] = Field(
        default="mse",
        description="The loss. Squared error or KL divergence against the output with no layer narrowed.",
    )

    samples: Annotated[Literal["all"] | Annotated[int, Field(ge=2)], Flag(Heading.SEARCH, "all|N")] = Field(
        default="all",
        description="Evaluation samples a probe uses. The same for all probes: two losses of a layer can be compared.",
    )

    @model_validator(mode="after")
    def _probes_are_narrower(self) -> Self:
        for precision in self.narrow:
            if not precision.narrower_than(self.wide):
                raise ValueError(f"narrow: {precision} is not narrower than the wide {self.wide}")
        return self

    @property
    def ladder(self) -> tuple[Precision, ...]:
        """The wide precision, those of `narrow`, and each of these that has two narrow sides with one alone narrow."""
        integers = [precision for precision in self.narrow if not precision.activations.is_float]
        sides = [side for precision in integers for side in precision.sides(self.wide)]
        return tuple(dict.fromkeys([self.wide, *self.narrow, *sides]))
