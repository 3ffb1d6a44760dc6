"""How data are read that are no arrays yet: part of a reference, so that every machine reads the same of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LABELS", "ColumnForm", "DataForm", "PictureForm", "PixelType", "RandomForm", "RandomInput"]

LABELS = "labels"
"""The column that holds the right answers instead of a model input."""

PixelType = Literal["float32", "float16", "float64", "uint8"]
"""Types of inputs that take pictures."""


class _Form(BaseModel):
    """A way of reading; frozen, since the digest of the data covers it."""

    model_config = ConfigDict(frozen=True)


class ColumnForm(_Form):
    """Arrays and tables in which columns have other names or types than the model says."""

    kind: Literal["columns"] = "columns"
    """Tells the forms apart."""
    labels: str
    """The column of labels."""
    types: tuple[tuple[str, str], ...] = ()
    """Columns of integers, and the types that they widen to: tables hold the narrowest type that will do."""


class PictureForm(_Form):
    """Pictures, resized and cropped to one size, as the values of one input."""

    kind: Literal["pictures"] = "pictures"
    """Tells the forms apart."""
    labels: str = LABELS
    """The column of labels, where the pictures are in a table."""
    input: str
    """The model input that they are for."""
    type: PixelType
    """Type of the input; for uint8 values stay 0 to 255."""
    channels: Literal[1, 3]
    """Grey, or red, green and blue."""
    channels_last: bool
    """Whether the axis of the channels is the last one (NHWC), not the first one of a sample (NCHW)."""
    height: int
    """Rows of pixels."""
    width: int
    """Pixels of a row."""
    crop: float = 1.0
    """Share of the resized picture, along each side, that the centre crop keeps."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted from values of 0 to 1; one for all channels or one each."""
    std: tuple[float, ...] = (1.0,)
    """What the difference is divided by, likewise."""


class RandomInput(_Form):
    """Random values of one input."""

    name: str
    """The input's."""
    type: str
    """numpy's name of its type."""
    shape: tuple[int, ...]
    """Shape of a sample, or of the one value of a constant."""
    constant: bool = False
    """Whether all samples share one value."""
    low: float | None = None
    """The least value; None for a standard normal distribution."""
    high: float | None = None
    """The largest value."""

    def __str__(self) -> str:
        values = "standard normal" if self.low is None else f"{self.low:g} to {self.high:g}"
        return f"{self.name}: {self.type} {list(self.shape)}, {values}"


class RandomForm(_Form):
    """No data at all: random samples, which are made where they are needed."""

    kind: Literal["random"] = "random"
    """Tells the forms apart."""
    inputs: tuple[RandomInput, ...]
    """In the model's order."""
    count: int
    """Number of samples."""
    seed: int
    """Start of the random numbers."""


DataForm = Annotated[ColumnForm | PictureForm | RandomForm, Field(discriminator="kind")]
"""A way of reading data."""
