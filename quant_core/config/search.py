"""How plans are chosen."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from quant_core.budget import BytesField, LatencyField, OperationsField
from quant_core.config.layer_operators import is_weight_only
from quant_core.config.probing import ProbeConfig
from quant_core.flags import Flag, Heading
from quant_core.precision import Precision, PrecisionField

__all__ = ["SearchConfig", "StrategyName", "default_candidates"]


StrategyName = Literal["greedy", "bisect", "linear", "knapsack"]
_EARLIER_NAMES = {"go-on": "greedy"}
"""Strategies by names that files, commands and manifests may still have."""


def _strategy_name(name: object) -> object:
    return _EARLIER_NAMES.get(name, name) if isinstance(name, str) else name


def _none_of_them(lift: object) -> object:
    """Return no precision for the word `none`, as the command line and files have it."""
    return () if lift in ("none", ["none"], ("none",)) else lift


StrategyField = Annotated[
    StrategyName,
    BeforeValidator(_strategy_name),
    WithJsonSchema({"type": "string", "enum": [*get_args(StrategyName), *_EARLIER_NAMES]}),
]
"""A strategy's name; an earlier name of one is read as its name of today."""


def default_candidates(
    wide: Precision | None, device_costs: str | None = None, narrow: object = None
) -> Literal["layers", "all"]:
    """Return what a search may narrow beside a wide precision by default.

    A mix with float32 is for a CPU, whose integer kernels want whole blocks: an Add in float parts them. A file of a
    device's costs has rows for layers, and where only weights are narrowed (`narrow`) an Add has none.
    """
    weights_alone = isinstance(narrow, list | tuple) and all(map(is_weight_only, narrow)) and len(narrow) > 0
    return "all" if str(wide) == "float32" and device_costs is None and not weights_alone else "layers"


class SearchConfig(ProbeConfig):
    """How plans are chosen."""

    lift: Annotated[
        tuple[PrecisionField, ...] | None,
        BeforeValidator(_none_of_them, json_schema_input_type=tuple[PrecisionField, ...] | None),
        Flag(Heading.PRECISIONS, "PRECISIONS|none"),
    ] = Field(
        default=None,
        description="The precisions above wide that layers may be lifted to, each wider than the one before. They are "
        "used only where the wide model misses the target, and for as few layers as meet it. By default 16-bit "
        "activations, then 16-bit weights as well, then float32, as far as the runtime has them; none: the run ends "
        "with exit code 3 there.",
    )
    float_tensors: Annotated[bool, Flag(Heading.PRECISIONS)] = Field(
        default=True,
        description="Where wide misses the target, leave tensors in float that lose most by being quantized. They are "
        "few, and come before layers are lifted; not within a budget.",
    )
    search: Annotated[StrategyField, Flag(Heading.SEARCH, "STRATEGY")] = Field(
        default="greedy",
        description="How plans are found. linear goes down the ranking one by one until the target breaks; bisect "
        "finds the same cut in log N steps; greedy skips the layer that broke it and tries the rest; knapsack only "
        "predicts.",
    )
    evaluations: Annotated[int, Flag(Heading.SEARCH, "N")] = Field(
        default=16, ge=1, description="Plans the search may try beyond the cut, at most."
    )
    max_bops: Annotated[OperationsField | None, Flag(Heading.TARGET, "SHARE")] = Field(
        default=None,
        description="Budget: the most bit operations, as a share (0.4) of the wide model's. Within a budget, or "
        "several, the best score is looked for, and a target, if there is one, decides whether that is good enough.",
    )
    max_bytes: Annotated[BytesField | None, Flag(Heading.TARGET, "BYTES")] = Field(
        default=None,
        description="Budget: the most bytes that layers' weights take in the file. Their scales and zero points count; "
        "a share (0.6) or an amount (300kB).",
    )
    max_latency: Annotated[LatencyField | None, Flag(Heading.TARGET, "TIME")] = Field(
        default=None,
        description="Budget: the longest time of a sample, a share (0.6) or an amount (2.5ms). It is measured as the "
        "cost latency is.",
    )
    most_layers: Annotated[int | None, Flag(Heading.SEARCH, "N")] = Field(
        default=None,
        ge=1,
        description="Layers that may be narrowed at most, the first ones of the ranking. For the searches linear and "
        "bisect.",
    )
    order: Annotated[tuple[str, ...], Flag(Heading.SEARCH, "LAYERS")] = Field(
        default=(),
        description="The order in which layers are narrowed, in place of the probed ranking. Those that are not named "
        "come after. For the searches linear and bisect; `narrowcast analyse` writes a file of it for --ranking.",
    )
    blocks: Annotated[tuple[str, ...], Flag(Heading.SEARCH, "graph|names|FILE|LAYERS")] = Field(
        default=(),
        description="Layers that are probed together: half the probes or fewer, and mixes come in runs. `graph` finds "
        "residual, attention and feed-forward blocks, and what lies between them; `names` takes what is named alike up "
        "to its first numbered part (`/features/features.3`). Blocks that you list move together, too: in a YAML file "
        "each is a list of layers, or a pattern is a block (`/layer1/*,/layer2/*`).",
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

    @model_validator(mode="after")
    def _blocks_are_no_single_layers(self) -> Self:
        if self.blocks and (self.order or self.most_layers is not None):
            raise ValueError("blocks: order and most_layers are for single layers; leave them out, or the blocks")
        return self

    @model_validator(mode="after")
    def _the_search_keeps_to_an_order(self) -> Self:
        if self.order and self.search not in ("linear", "bisect"):
            raise ValueError("order: goes with search='linear' or 'bisect', which keep to it")
        return self

    @model_validator(mode="after")
    def _ranking_says_which_layers(self) -> Self:
        if self.most_layers is not None and (self.search not in ("linear", "bisect") or self.frontier):
            raise ValueError("most_layers: goes with search='linear' or 'bisect', which keep to the ranking")
        return self
