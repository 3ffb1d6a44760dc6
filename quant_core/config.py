"""Everything a run can be told, in one frozen model shared by Python, the command line, YAML and Prefect's form.

The first sentence of a field's description is its help on the command line; pages and files show all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from quant_core.budget import BUDGETS, Amount, BytesField, LatencyField, OperationsField
from quant_core.errors import InputError
from quant_core.flags import Flag, Heading
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS, LayerOp
from quant_core.precision import DataType, Precision, PrecisionField
from quant_core.validation import mistakes_of

__all__ = [
    "Config",
    "Criterion",
    "LayerWiseConfig",
    "MixedPrecisionConfig",
    "QuantizationConfig",
    "RunConfig",
    "RuntimeName",
    "SearchConfig",
    "Target",
    "config_from",
    "default_narrow",
    "validated",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


MetricName = Literal["top1_drop", "l2", "sqnr_db", "kl", "cosine", "metric_drop"]


class Criterion(_Frozen):
    """What the quantized model is measured by, against the float model on the evaluation data."""

    metric: MetricName = Field(default="l2", description="What is measured; `metric_drop` is the user's own function.")
    limit: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Largest allowed value (for sqnr_db: the smallest); none allows all.",
    )
    function: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`pkg.mod:fn`, called with (outputs, labels), higher is better. For metric_drop only.",
    )
    confidence: float | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="How sure it must be that other samples would show the same; none: these samples are all there is.",
    )

    @model_validator(mode="after")
    def _function_goes_with_metric_drop(self) -> Self:
        if (self.metric == "metric_drop") != (self.function is not None):
            raise ValueError("the metric metric_drop and a function `pkg.mod:fn` go together")
        if self.function is not None and self.confidence is not None:
            raise ValueError("confidence needs differences of single samples, which a function of all of them hides")
        return self

    @property
    def higher_is_better(self) -> bool:
        """Whether the limit is a lower bound."""
        return self.metric == "sqnr_db"

    def met_by(self, score: float) -> bool:
        """Whether a score is within the limit, if there is one; NaN never is."""
        if self.limit is None:
            return True
        return score >= self.limit if self.higher_is_better else score <= self.limit

    def __str__(self) -> str:
        name = self.function or self.metric
        return name if self.limit is None else f"{name} {'>=' if self.higher_is_better else '<='} {self.limit:g}"


class Target(Criterion):
    """What the quantized model must meet; within a budget, what is to be best."""

    metric: MetricName = Field(description="What is measured; `metric_drop` is the user's own function.")
    limit: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Largest allowed value (for sqnr_db: the smallest); none where a budget or most_layers says how "
        "narrow to go.",
    )


RuntimeName = Literal["onnxruntime", "onnxruntime-vnni", "reference"]
"""Runtimes that have a profile (see `runtimes`)."""

_PERCENTILE = 99.999


class QuantizationConfig(_Frozen):
    """How numbers are chosen: what calibration statistics are turned into."""

    wide: Annotated[PrecisionField, Flag(Heading.PRECISIONS, "PRECISION")] = Field(
        default_factory=lambda: Precision.parse("a16w8"),
        json_schema_extra={"default": "a16w8"},  # pydantic does not write a default of our own type there
        description="Precision of every layer that is not narrowed.",
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
    round_weights: Annotated[Literal["auto", "nearest", "gptq"], Flag(Heading.RANGES, "METHOD")] = Field(
        default="auto",
        description="How weights of up to 8 bits become codes. nearest: each the nearest one; gptq: all of them for "
        "the least error of the layer's output on the calibration data; auto: gptq for 4 bits.",
    )
    correct_bias: Annotated[bool, Flag(Heading.RANGES)] = Field(
        default=False,
        description="Correct biases for the mean error of rounded weights. The mean is that of the layer's output on "
        "the calibration data.",
    )
    symmetric: Annotated[bool, Flag(Heading.RANGES)] = Field(
        default=True, description="Zero point 0 for signed activation types."
    )
    per_channel: Annotated[bool, Flag(Heading.RANGES)] = Field(
        default=False, description="One weight scale per output channel."
    )
    block_size: Annotated[int | None, Flag(Heading.RANGES, "N")] = Field(
        default=None,
        ge=16,
        description="Inputs that share a scale in the 4-bit weights of MatMul and Gemm. A power of two; by default "
        "all inputs do.",
    )
    biases: Annotated[Literal["int32", "as-weights", "narrow-as-weights"], Flag(Heading.MODEL, "TYPE")] = Field(
        default="int32",
        description="Type of biases. int32 has the scale of input times weight; as-weights is the type of the "
        "layer's weights with a scale of their own, in all layers or in those that are not wide.",
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
            raise ValueError(f"percentile is of calibrate='percentile', not of {self.calibrate!r}; leave it out")
        if self.power_of_two_rounding != "up" and not self.has_power_of_two_scales:
            raise ValueError(f"power_of_two_rounding is of the pow2 methods, not of {self.calibrate!r}; leave it out")
        if self.calibrate_weights != "minmax" and self.has_power_of_two_scales:
            raise ValueError(f"calibrate_weights: {self.calibrate!r} chooses the scales of weights too; leave it out")
        if self.block_size is not None and self.block_size & (self.block_size - 1):
            raise ValueError(f"block_size must be a power of two, which runtimes ask for, not {self.block_size}")
        return self

    def holds_bias_as_weight(self, precision: Precision) -> bool:
        """Whether biases of layers of a precision have the type of their weights."""
        return self.biases == "as-weights" or (self.biases == "narrow-as-weights" and precision != self.wide)

    @property
    def limits_byte_sums(self) -> bool:
        """Whether 8-bit weights get codes whose sums fit, instead of being stored unsigned where they do not."""
        return self.byte_sums == "fast" or (self.byte_sums == "auto" and self.wide.is_float)

    def rounds_by_output(self, weights: DataType) -> bool:
        """Whether weights of a type are rounded for what their layer puts out."""
        if weights.is_float or weights.bits > 8 or self.round_weights == "nearest":
            return False
        return self.round_weights == "gptq" or weights.bits == 4

    def chooses_weights(self, weights: DataType) -> bool:
        """Whether the calibration data have a say in the codes of such weights, or in the biases beside them."""
        corrected = self.correct_bias and not weights.is_float and weights.bits <= 8
        return corrected or self.rounds_by_output(weights)

    @property
    def has_power_of_two_scales(self) -> bool:
        """Whether every scale is a power of two."""
        return self.calibrate.startswith("pow2-")


def _index_or_name(output: object) -> object:
    """Return the index that a text of digits is, as the command line has it."""
    return int(output) if isinstance(output, str) and re.fullmatch(r"-?\d+", output) else output


class RunConfig(QuantizationConfig):
    """What every run is told, whatever it is that chooses the plan."""

    target: Criterion = Field(default=Criterion(), description="What the model that comes out is measured by.")
    layer_ops: Annotated[tuple[LayerOp, ...], Flag(Heading.PRECISIONS, "OPERATORS")] = Field(
        default=DEFAULT_LAYER_OPS, min_length=1, description="Operators that are layers. Others stay wide."
    )
    candidates: Annotated[Literal["layers", "all"], Flag(Heading.PRECISIONS, "WHICH")] = Field(
        default="layers",
        description="What a plan may narrow. Layers, or every operator that is quantized (Add, Mul, pools and so on).",
    )
    output: Annotated[
        int | str,
        BeforeValidator(_index_or_name, json_schema_input_type=int | str),
        Flag(Heading.DATA, "NAME|INDEX|all"),
    ] = Field(
        default=0,
        description="The model output that is compared. Its index or name, or `all` for all of them together.",
    )
    exclude: Annotated[tuple[str, ...], Flag(Heading.PRECISIONS, "NODES")] = Field(
        default=(), description="Nodes that stay in float, by name or pattern (`/head/*`)."
    )
    optimize: Annotated[bool, Flag(Heading.MODEL)] = Field(
        default=True,
        description="Let ONNX Runtime fold constants and batch norms before anything is quantized.",
    )
    pairs: Annotated[Literal["standard", "com.microsoft"], Flag(Heading.MODEL, "DOMAIN")] = Field(
        default="standard",
        description="The domain of the Q/DQ pairs. For the standard's the model is brought to opset 21; ONNX "
        "Runtime's own hold 16 bits at the model's own opset, as some vendors' runtimes expect.",
    )
    equalize: Annotated[bool, Flag(Heading.MODEL)] = Field(
        default=False,
        description="Make the channels of each weight alike in range first. This is done where the next layer can "
        "make up for it.",
    )
    providers: Annotated[tuple[str, ...], Flag(Heading.RANGES, "NAMES")] = Field(
        default=("CPUExecutionProvider",),
        min_length=1,
        description="ONNX Runtime's execution providers that calibration runs on. The first one that can is taken.",
    )
    format: Annotated[Literal["qdq", "qoperator"], Flag(Heading.MODEL, "FORMAT")] = Field(
        default="qdq",
        description="How the model is written. With Q/DQ pairs, or (8-bit types only) with ONNX Runtime's integer "
        "operators, as its own conversion makes them.",
    )
    cost: Annotated[Literal["bops", "bytes", "activation-bytes", "latency"], Flag(Heading.COST, "COST")] = Field(
        default="bops",
        description="What is to be saved. Bit operations, weight bytes, bytes of what layers read, or the time layers "
        "take in ONNX Runtime on this machine.",
    )
    device_costs: Annotated[str | None, Flag(Heading.COST, "CSV", is_path=True)] = Field(
        default=None,
        description="Your device's latencies, for the cost latency. A CSV file of what layers take on it "
        "(layer,precision,milliseconds), in place of timing them here.",
    )
    time_models: Annotated[bool, Flag(Heading.COST)] = Field(
        default=False,
        description="Time the float, the wide and the finished model in ONNX Runtime. With the cost latency this is "
        "always done.",
    )
    batch_size: Annotated[int | None, Flag(Heading.RUNNING, "N")] = Field(
        default=None,
        ge=1,
        description="Samples a forward pass takes at once. By default as many as keep memory small.",
    )
    score_in: Annotated[Literal["simulation", "runtime"], Flag(Heading.SEARCH, "WHERE")] = Field(
        default="simulation",
        description="What plans are scored in while they are searched. A simulation of what the pairs say, or the "
        "runtime itself, where its numbers differ; the finished file is always scored in the runtime.",
    )

    @model_validator(mode="after")
    def _device_costs_are_latencies(self) -> Self:
        if self.device_costs is not None and self.cost != "latency":
            raise ValueError(f"device_costs are of the cost 'latency', not of {self.cost!r}; leave them out")
        return self

    @model_validator(mode="after")
    def _confidence_is_of_a_limit(self) -> Self:
        if self.target.limit is None and self.target.confidence is not None:
            raise ValueError("target: a confidence is that of meeting a limit; give one, or leave it out")
        return self

    @property
    def budget(self) -> Amount | None:
        """The most that a plan may cost, by the cost that counts; None where there is no such limit."""
        return None

    @property
    def ladder(self) -> tuple[Precision, ...]:
        """The precisions that a plan is made of, the wide one first."""
        return (self.wide,)

    @property
    def budget_text(self) -> str:
        """The budget as a claim: `bops <= 0.4 of the wide model`, `bytes <= 300kB`; empty without one."""
        amount = self.budget
        return "" if amount is None else f"{self.cost} <= {amount}{' of the wide model' if amount.is_share else ''}"

    @model_validator(mode="after")
    def _integer_operators_have_8_bits(self) -> Self:
        for precision in self.ladder:
            if self.format == "qoperator" and precision.why_not_integer:
                raise ValueError(f"format: {precision.why_not_integer}")
        return self

    @property
    def times_models(self) -> bool:
        """Whether whole models are timed."""
        return self.time_models or self.cost == "latency"

    @property
    def candidate_ops(self) -> tuple[str, ...]:
        """Operators whose precision a plan chooses."""
        return self.layer_ops if self.candidates == "layers" else (*self.layer_ops, *COMPUTE_OPS)

    def preparation(self) -> dict[str, Any]:
        """The part that decides what the prepared model and its layers are, as arguments of `prepare`."""
        return {
            "layer_ops": self.candidate_ops,
            "equalize": self.equalize,
            "optimize": self.optimize,
            "pairs": self.pairs,
            "exclude": self.exclude,
        }

    def quantization(self) -> QuantizationConfig:
        """The part that decides scales and codes."""
        return QuantizationConfig.model_validate(self.model_dump(include=set(QuantizationConfig.model_fields)))


class LayerWiseConfig(RunConfig):
    """The configuration of a run whose plan the user has chosen."""


StrategyName = Literal["greedy", "bisect", "linear", "knapsack"]
_EARLIER_NAMES = {"go-on": "greedy"}
"""Strategies by names that files, commands and manifests may still have."""


def _strategy_name(name: object) -> object:
    return _EARLIER_NAMES.get(name, name) if isinstance(name, str) else name


StrategyField = Annotated[
    StrategyName,
    BeforeValidator(_strategy_name),
    WithJsonSchema({"type": "string", "enum": [*get_args(StrategyName), *_EARLIER_NAMES]}),
]
"""A strategy's name; an earlier name of one is read as its name of today."""


class SearchConfig(_Frozen):
    """How plans are chosen."""

    narrow: Annotated[tuple[PrecisionField, ...], Flag(Heading.PRECISIONS, "PRECISIONS")] = Field(
        default_factory=lambda: default_narrow(None),
        json_schema_extra={"default": ["a8w8"]},
        min_length=1,
        description="The precisions the search may choose, each narrower than the one before. Beside a wide float32 "
        "au8w8 by default, for the sake of CPUs.",
    )
    search: Annotated[StrategyField, Flag(Heading.SEARCH, "STRATEGY")] = Field(
        default="greedy",
        description="How plans are found. linear goes down the ranking one by one until the target breaks; bisect "
        "finds the same cut in log N steps; greedy skips the layer that broke it and tries the rest; knapsack only "
        "predicts.",
    )
    evaluations: Annotated[int, Flag(Heading.SEARCH, "N")] = Field(
        default=8, ge=1, description="Plans the search may try beyond the cut, at most."
    )
    max_bops: Annotated[OperationsField | None, Flag(Heading.TARGET, "SHARE")] = Field(
        default=None,
        description="Budget: the most bit operations, as a share (0.4) of the wide model's. Within a budget the best "
        "score is looked for, and a target, if there is one, decides whether that is good enough.",
    )
    max_bytes: Annotated[BytesField | None, Flag(Heading.TARGET, "BYTES")] = Field(
        default=None,
        description="Budget: the most bytes of layers' weights, a share (0.6) or an amount (300kB).",
    )
    max_latency: Annotated[LatencyField | None, Flag(Heading.TARGET, "TIME")] = Field(
        default=None,
        description="Budget: the longest time of a sample, a share (0.6) or an amount (2.5ms). It is measured as the "
        "cost latency is.",
    )
    keep_wide: Annotated[tuple[str, ...], Flag(Heading.PRECISIONS, "LAYERS")] = Field(
        default=(), description="Layers that no plan narrows, by name or pattern (`/stem/*`)."
    )
    most_layers: Annotated[int | None, Flag(Heading.SEARCH, "N")] = Field(
        default=None,
        ge=1,
        description="Layers that may be narrowed at most, the first ones of the ranking. For the searches linear and "
        "bisect.",
    )
    frontier: Annotated[bool, Flag(Heading.SEARCH)] = Field(
        default=False,
        description="Measure plans along the whole curve of score against cost. `narrowcast pick` then writes any of "
        "them.",
    )
    rank: Annotated[Literal["mse", "kl", "l2-float"], Flag(Heading.SEARCH, "LOSS")] = Field(
        default="mse",
        description="The loss layers are ranked by. Squared error or KL divergence against the wide model's output, "
        "or the L2 distance to the float model's, where the wide model's own error hides what a layer adds.",
    )
    samples: Annotated[Literal["auto", "all"] | int, Flag(Heading.SEARCH, "auto|all|N")] = Field(
        default="auto",
        description="Evaluation samples a probe uses. As many as the ranking needs, all, or so many.",
    )

    @property
    def budgets(self) -> dict[str, Amount]:
        """The budgets that are given, by option."""
        amounts = {"max_bops": self.max_bops, "max_bytes": self.max_bytes, "max_latency": self.max_latency}
        return {name: amount for name, amount in amounts.items() if amount is not None}

    @model_validator(mode="after")
    def _samples_are_some(self) -> Self:
        if isinstance(self.samples, int) and self.samples < 2:
            raise ValueError(f"samples must be 'auto', 'all' or at least 2, not {self.samples}")
        return self

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        first, *others = self.budgets or [""]
        if others:
            raise ValueError(f"{others[0]}: give one budget, not {first} as well")
        return self

    @model_validator(mode="after")
    def _ranking_says_which_layers(self) -> Self:
        if self.most_layers is not None and (self.search not in ("linear", "bisect") or self.frontier):
            raise ValueError("most_layers: goes with search='linear' or 'bisect', which keep to the ranking")
        return self


def default_narrow(wide: Precision | None) -> tuple[Precision, ...]:
    """Return the precisions that a search may choose beside a wide one, where nobody says which.

    A mix with float32 is for a CPU, and those multiply unsigned activations by signed weights.
    """
    return (Precision.parse("au8w8" if str(wide) == "float32" else "a8w8"),)


class MixedPrecisionConfig(RunConfig, SearchConfig):
    """The configuration of one automatic mixed-precision run."""

    target: Target = Field(description="What the model that comes out must meet; within a budget, what is to be best.")

    @model_validator(mode="before")
    @classmethod
    def _a_budget_says_what_costs(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not (names := [name for name in BUDGETS if given.get(name) is not None]):
            return given
        return {"target": {"metric": "l2"}, "cost": BUDGETS[names[0]], **given}

    @model_validator(mode="before")
    @classmethod
    def _so_many_layers_need_no_limit(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("most_layers") is not None:
            return {"target": {"metric": "l2"}, **given}
        return given

    @model_validator(mode="before")
    @classmethod
    def _narrow_goes_with_wide(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "narrow" not in given and str(given.get("wide")) == "float32":
            return {**given, "narrow": default_narrow(Precision.parse("float32"))}
        return given

    @model_validator(mode="after")
    def _something_says_how_narrow(self) -> Self:
        for name in self.budgets:
            if self.cost != BUDGETS[name]:
                raise ValueError(f"cost: within {name} it is {BUDGETS[name]!r}, not {self.cost!r}; leave it out")
        if self.target.limit is None and self.budget is None and self.most_layers is None:
            raise ValueError(f"target: give it a limit, or give a budget: {', '.join(BUDGETS)}")
        if self.most_layers is not None and self.budget is not None:
            raise ValueError("most_layers: a budget says how many layers are narrowed; leave one of them out")
        return self

    @model_validator(mode="after")
    def _each_step_is_narrower(self) -> Self:
        for above, below in pairwise(self.ladder):
            if not below.narrower_than(above):
                raise ValueError(f"narrow: {below} is not narrower than {above}")
        if self.block_size is not None and all(precision.weights.bits != 4 for precision in self.ladder):
            raise ValueError("block_size is of 4-bit weights: add a precision such as a8w4, or leave it out")
        return self

    @property
    def budget(self) -> Amount | None:
        """The most that a plan may cost, by the cost that counts; None where there is no such limit."""
        return next(iter(self.budgets.values()), None)

    @property
    def ladder(self) -> tuple[Precision, ...]:
        """The precisions that a plan is made of, the wide one first and each narrower than the one before."""
        return (self.wide, *self.narrow)


Config = TypeVar("Config", bound=RunConfig)
"""A kind of run's configuration."""


def config_from(**options: object) -> MixedPrecisionConfig:
    """Build a configuration from loose options; raises InputError with one line that names what is wrong."""
    return validated(MixedPrecisionConfig, options)


def validated(kind: type[Config], options: Mapping[str, object]) -> Config:
    """Build a configuration of some kind from loose options; raises InputError as `config_from` does."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        raise InputError(str(mistakes_of(error, kind)[0])) from error
