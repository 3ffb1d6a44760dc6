"""How data are read that are no arrays yet: pictures, columns of labels, and random samples in place of data."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from quant_core.config.frozen import FrozenModel
from quant_core.flags import Flag, Heading

__all__ = ["DataConfig"]


def _size_text(size: object) -> object:
    return str(size) if isinstance(size, int) and not isinstance(size, bool) else size


class DataConfig(FrozenModel):
    """How data are read that are no arrays yet."""

    image_size: Annotated[
        str | None,
        BeforeValidator(_size_text, json_schema_input_type=int | str | None),
        Flag(Heading.DATA, "SIZE|HxW", default="the model's"),
    ] = Field(
        default=None,
        pattern=r"^[1-9]\d{0,4}(x[1-9]\d{0,4})?$",
        description="Size of pictures for the model: `320`, or height and width, `320x480`. Where data are pictures, "
        "they are resized and their centre is cut out.",
    )
    image_crop: Annotated[float, Flag(Heading.DATA, "SHARE")] = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of a resized picture that the centre crop keeps along each side. 0.875 is 224 of 256.",
    )
    mean: Annotated[tuple[float, ...], Flag(Heading.DATA, "NUMBERS")] = Field(
        default=(),
        description="Subtracted from pixels, which are 0 to 1. One number, or one each for red, green, blue.",
    )
    std: Annotated[tuple[float, ...], Flag(Heading.DATA, "NUMBERS")] = Field(
        default=(), description="What pixels are divided by after the mean was subtracted, likewise."
    )
    label_column: Annotated[str, Flag(Heading.DATA, "NAME")] = Field(
        default="labels", min_length=1, description="The column or array of data that holds the labels."
    )
    random_samples: Annotated[int, Flag(Heading.DATA, "N")] = Field(
        default=256, ge=1, le=1_000_000, description="Number of samples where data are `random`."
    )
    random_sizes: Annotated[tuple[str, ...], Flag(Heading.DATA, "NAME=SIZE")] = Field(
        default=(),
        description="Sizes of random samples that the model leaves open. By symbol (`sequence=128`), or by input and "
        "axis (`x:2=128`).",
    )
    random_range: Annotated[tuple[str, ...], Flag(Heading.DATA, "INPUT=LOW:HIGH")] = Field(
        default=(),
        description="Least and largest value of random samples of an input (`input_ids=0:30521`). By default rows of "
        "the table that it indexes, or else 0 to 1, for integers; a standard normal distribution for floats.",
    )

    @model_validator(mode="after")
    def _std_divides(self) -> Self:
        if any(value <= 0 for value in self.std):
            raise ValueError("std: pixels are divided by it, so it must be above 0")
        return self
