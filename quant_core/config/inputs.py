"""What the user says of a model's inputs and outputs: axes, constants, states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from quant_core.config.frozen import FrozenModel
from quant_core.flags import Flag, Heading

__all__ = ["NOTHING_SAID", "InputsConfig"]


class InputsConfig(FrozenModel):
    """What the user says of a model's inputs and outputs."""

    sample_axis: Annotated[tuple[str, ...], Flag(Heading.DATA, "NAME=AXIS")] = Field(
        default=(),
        description="Axis of the samples of an input or output (`h0=1`), where it is not the one that is found.",
    )
    classes: Annotated[tuple[str, ...], Flag(Heading.DATA, "NAME=AXIS")] = Field(
        default=(), description="Axis of the classes of an output (`logits=2`), where it is not the one that is found."
    )
    fix_inputs: Annotated[tuple[str, ...], Flag(Heading.DATA, "NAME=VALUE", name="set")] = Field(
        default=(),
        description="Inputs that are fixed for good, with their values (`sr=16000`). What depends on them alone is "
        "folded, branches of an If too.",
    )
    states: Annotated[tuple[str, ...], Flag(Heading.DATA, "INPUT=OUTPUT", name="state")] = Field(
        default=(),
        description="Inputs that are states, each with the output that it is fed from one step later (`h=hn`). A "
        "sample is then a sequence: other inputs have an axis of steps behind that of the samples.",
    )

    def fix_inputs_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what is said of some inputs: those of a model in which others are fixed already."""
        return tuple(text for text in self.fix_inputs if text.partition("=")[0] in names)


NOTHING_SAID = InputsConfig()
"""What is found holds."""
