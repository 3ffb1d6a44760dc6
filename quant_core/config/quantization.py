"""How numbers are chosen: the part of the options that scales and codes depend on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quant_core.config.frozen import FrozenModel
from quant_core.config.runtimes import HALF_SCALES, RuntimeName
from quant_core.flags import Flag, Heading
from quant_core.precision import PER_TENSOR, DataType, Precision, PrecisionField

__all__ = ["QuantizationConfig"]

_PERCENTILE = 99.999


_BiasType = Literal["int32", "as-weights", "narrow-as-weights", "float32", "float16", "small"]
_BESIDE_CODES_OF = 4
"""Bits of weights that err by more than a bias in 8 bits does."""


_FEWEST_IN_HALF = 16
"""Scales of channels from which on the Cast takes fewer bytes than float16 saves."""


class QuantizationConfig(FrozenModel):
    """How numbers are chosen: what calibration statistics are turned into."""

    wide: Annotated[PrecisionField, Flag(Heading.PRECISIONS, "PRECISION")] = Field(
        default_factory=lambda: Precision.parse("a16w8"),
        json_schema_extra={"default": "a16w8"},  # pydantic does not write a default of our own type there
        description="Precision of every layer that is not narrowed. Some runtimes have another default (`narrowcast "
        "runtimes`).",
    )
    calibrate: Annotated[
        Literal["percentile", "minmax", "entropy", "mse", "pow2-nonoverflow", "pow2-minmse"],
        Flag(Heading.RANGES, "METHOD"),
    ] = Field(
        default="percentile",
        description="How a range is chosen from the values seen in calibration. With the pow2 methods scales are "
        "powers of two.",
    )
    percentile: Annotated[float, Flag(Heading.RANGES, "PERCENT")] = Field(
        default=_PERCENTILE, gt=50, le=100, description="Share of the values that `percentile` covers, in percent."
    )
    power_of_two_rounding: Annotated[Literal["up", "nearest"], Flag(Heading.RANGES, "HOW")] = Field(
        default="up",
        description="How a pow2 method rounds the exponent of a scale. Up, so that nothing overflows; nearest, as "
        "Quark does.",
    )
    calibrate_weights: Annotated[Literal["minmax", "mse"], Flag(Heading.RANGES, "METHOD")] = Field(
        default="minmax", description="How a weight's range is chosen. A pow2 method chooses it itself."
    )
    round_weights: Annotated[Literal["auto", "nearest", "gptq", "hqq"], Flag(Heading.RANGES, "METHOD")] = Field(
        default="auto",
        description="How weights of up to 8 bits become codes. nearest: each the nearest one; gptq: all of them for "
        "the least error of the layer's output on the calibration data; hqq: each the nearest one of a grid that is "
        "fitted to most values, without data; auto: for 4 bits and less, what of these and of gptq on hqq's grid has "
        "the least error of the layer's output; for 8 bits beside floats, nearest or gptq.",
    )
    correct_bias: Annotated[bool, Flag(Heading.RANGES)] = Field(
        default=False,
        description="Correct biases for the mean error of rounded weights. The mean is that of the layer's output on "
        "the calibration data.",
    )
    symmetric: Annotated[bool | None, Flag(Heading.RANGES, default="true")] = Field(
        default=None,
        description="Zero point 0 for signed activation types. --improve may choose others, unless this is given.",
    )
    per_channel: Annotated[bool, Flag(Heading.RANGES)] = Field(
        default=True, description="One weight scale per output channel, instead of one per weight."
    )
    block_size: Annotated[int | None, Flag(Heading.RANGES, "N")] = Field(
        default=None,
        ge=16,
        description="Inputs that share a scale in weights of MatMul, Gemm, Gather and recurrent layers. Weights of 4 "
        "bits and, beside floats (`float32w8`), of 8. A power of two; by default all inputs do. A precision may say it "
        "for itself (`float32w4b32`).",
    )
    biases: Annotated[_BiasType, Flag(Heading.MODEL, "TYPE")] = Field(
        default="int32",
        description="Type of biases. int32 has the scale of input times weight; as-weights is the type of the "
        "layer's weights with a scale of their own, in all layers or in those that are not wide; "
        "float32 leaves them, float16 holds them in half the bytes, behind a Cast; small is int8 with a scale of "
        "its own beside weights of 4 bits and fewer, int4 where such a weight has one scale by its precision "
        "(`a8w4t`), and float16 elsewhere. ONNX Runtime rounds floats itself: there small is the default where bytes "
        "are saved.",
    )
    channel_scales: Annotated[Literal["float32", "float16"], Flag(Heading.MODEL, "TYPE")] = Field(
        default="float32",
        description="How scales of weights are held that have one a channel. float16: in half the bytes, behind a "
        "Cast, where that saves any. On ONNX Runtime, which casts them once as it loads a file, it is the default "
        "where bytes are saved.",
    )
    others: Annotated[Literal["wide", "float32"], Flag(Heading.MODEL, "TYPE")] = Field(
        default="wide",
        description="Type of what operators that are no layers read and write, such as Add or Softmax. wide: that of "
        "the wide precision; float32: they have no pairs where that has 16 bits, beside which ONNX Runtime computes "
        "in float anyway: there float32 is the default where bytes are saved.",
    )
    runtime: Annotated[RuntimeName, Flag(Heading.MODEL, "RUNTIME")] = Field(
        default="onnxruntime",
        description="Where the model will run. What is legal there decides what is written, and the finished file is "
        "scored as that runtime opens it; `narrowcast runtimes` lists them. reference: as the Q/DQ pairs say, for "
        "compilers that keep to them.",
    )
    byte_sums: Annotated[Literal["auto", "exact", "fast"], Flag(Heading.MODEL, "HOW")] = Field(
        default="auto",
        description="How sums of 8-bit products are kept from saturating in ONNX Runtime. They would on x86 "
        "processors without VNNI. exact: int8 weights whose sums could are stored as uint8, for the same values; "
        "fast: they get codes whose sums cannot, a little coarser; auto: fast beside a wide float32, where speed "
        "is the point, else exact.",
    )
    dual_pairs: Annotated[bool, Flag(Heading.MODEL)] = Field(
        default=False,
        description="Keep the wide pair of every tensor in front of its narrow ones. Each narrow reader has a narrow "
        "pair behind it, as some compilers want precision boundaries to be.",
    )

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Self:
        if self.percentile != _PERCENTILE and self.calibrate != "percentile":
            raise ValueError(f"percentile is for calibrate='percentile', not for {self.calibrate!r}; leave it out")
        if self.power_of_two_rounding != "up" and not self.has_power_of_two_scales:
            raise ValueError(f"power_of_two_rounding is for the pow2 methods, not for {self.calibrate!r}; leave it out")
        if self.round_weights == "hqq" and self.has_power_of_two_scales:
            raise ValueError(f"round_weights: hqq fits scales; {self.calibrate!r} has powers of two; leave it out")
        if self.calibrate_weights != "minmax" and self.has_power_of_two_scales:
            raise ValueError(f"calibrate_weights: {self.calibrate!r} chooses the scales of weights too; leave it out")
        if self.has_float_biases and self.correct_bias:
            raise ValueError(f"correct_bias is for biases that become codes; with biases {self.biases} leave it out")
        if self.dual_pairs and self.others != "wide":
            raise ValueError("dual_pairs: every tensor has a wide pair, so others is wide; leave one of them out")
        if self.block_size is not None and self.block_size & (self.block_size - 1):
            raise ValueError(f"block_size must be a power of two, which runtimes ask for, not {self.block_size}")
        return self

    def own_bias_type(self, precision: Precision) -> DataType | None:
        """Return the type of biases of layers of a precision where they are codes at a scale of their own."""
        if self.biases == "small":
            if precision.weights.bits > _BESIDE_CODES_OF:
                return None
            return DataType.INT4 if precision.block == PER_TENSOR else DataType.INT8
        as_weights = self.biases == "as-weights" or (self.biases == "narrow-as-weights" and precision != self.wide)
        return precision.weights if as_weights else None

    def leaves_biases(self, precision: Precision) -> bool:
        """Return whether biases of layers of a precision stay floats."""
        return self.has_float_biases and self.own_bias_type(precision) is None

    @property
    def is_symmetric(self) -> bool:
        """Whether signed activation types have zero point 0."""
        return self.symmetric is not False

    @property
    def others_type(self) -> DataType:
        """Type of what operators read and write that are no layers."""
        wide = self.wide.activations
        return DataType.FLOAT32 if self.others == "float32" and not wide.is_float and wide.bits == 16 else wide

    @property
    def has_float_biases(self) -> bool:
        """Whether biases stay floats, if only of some layers."""
        return self.biases in ("float32", "float16", "small")

    @property
    def has_half_biases(self) -> bool:
        """Whether those that do are held in float16."""
        return self.biases in ("float16", "small")

    def halves_scales(self, count: int, block: int | None) -> bool:
        """Return whether so many scales of blocks, or of channels, are held in float16."""
        if block is not None:
            return self.runtime in HALF_SCALES
        return self.channel_scales == "float16" and count >= _FEWEST_IN_HALF

    @property
    def limits_byte_sums(self) -> bool:
        """Whether 8-bit weights get codes whose sums fit, instead of being stored unsigned where they do not."""
        return self.byte_sums == "fast" or (self.byte_sums == "auto" and self.wide.is_float)

    def rounds_by_output(self, weights: DataType, alone: bool) -> bool:
        """Return whether weights of a type, `alone` beside floats, are rounded for what their layer puts out."""
        if weights.is_float or weights.bits > 8 or self.round_weights == "nearest":
            return False
        return self.round_weights == "gptq" or (self.round_weights == "auto" and (alone or weights.bits <= 4))

    def fits_grids(self, weights: DataType) -> bool:
        """Return whether the grid of weights of a type may be fitted to most values, in place of all."""
        if weights.is_float or weights.bits > 8 or self.has_power_of_two_scales:
            return False
        return self.round_weights == "hqq" or (self.round_weights == "auto" and weights.bits <= 4)

    def chooses_weights(self, weights: DataType, alone: bool) -> bool:
        """Return whether the calibration data have a say in the codes of such weights, or in the biases beside them."""
        corrected = self.correct_bias and not weights.is_float and weights.bits <= 8
        return corrected or self.rounds_by_output(weights, alone) or self.fits_grids(weights)

    @property
    def has_power_of_two_scales(self) -> bool:
        """Whether every scale is a power of two."""
        return self.calibrate.startswith("pow2-")
