"""The table of options: the fields of the configuration and of the target's flags, each with how it is shown.

Command line, options file, schema, documentation and the report's command are made from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from quant_core.config import (
    Criterion,
    RunConfig,
    SearchConfig,
    default_candidates,
    default_layer_ops,
    default_narrow,
    run_defaults,
)
from quant_core.flags import Flag, Heading

__all__ = [
    "LIMITS",
    "OF_THE_TARGET",
    "Option",
    "TargetOptions",
    "flags_of",
    "listed",
    "number_text",
    "options_of",
    "target_flags",
]


class TargetOptions(BaseModel):
    """A target as flags and files have it: one limit, and what goes with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_top1_drop: Annotated[float | None, Flag(Heading.TARGET, "X", limits="top1_drop")] = Field(
        default=None, description="Target: largest loss of top-1; 0.01 is a point."
    )
    max_l2: Annotated[float | None, Flag(Heading.TARGET, "X", limits="l2")] = Field(
        default=None, description="Target: largest mean L2 distance to the float outputs."
    )
    min_sqnr: Annotated[float | None, Flag(Heading.TARGET, "DB", limits="sqnr_db")] = Field(
        default=None, description="Target: smallest signal-to-noise ratio, in dB."
    )
    max_kl: Annotated[float | None, Flag(Heading.TARGET, "X", limits="kl")] = Field(
        default=None, description="Target: largest mean KL divergence of the classes."
    )
    max_cosine: Annotated[float | None, Flag(Heading.TARGET, "X", limits="cosine")] = Field(
        default=None, description="Target: largest mean cosine distance to the float outputs."
    )
    max_metric_drop: Annotated[float | None, Flag(Heading.TARGET, "X", limits="metric_drop")] = Field(
        default=None, description="Target: largest loss of your own --metric."
    )
    min_score: Annotated[float | None, Flag(Heading.TARGET, "X", limits="score")] = Field(
        default=None, description="Target: smallest score of your evaluator, of which higher is better."
    )
    max_score_drop: Annotated[float | None, Flag(Heading.TARGET, "X", limits="score_drop")] = Field(
        default=None,
        description="Target: how far your evaluator's score may fall below the float model's; higher is better.",
    )
    max_score: Annotated[float | None, Flag(Heading.TARGET, "X", limits="low_score")] = Field(
        default=None, description="Target: largest score of your evaluator, of which lower is better: an error rate."
    )
    max_score_rise: Annotated[float | None, Flag(Heading.TARGET, "X", limits="score_rise")] = Field(
        default=None,
        description="Target: how far your evaluator's score may rise above the float model's; lower is better.",
    )
    metric: Annotated[str | None, Flag(Heading.TARGET, "PKG.MOD:FN", default="l2")] = Field(
        default=None,
        description="Your metric, fn(outputs, labels), higher is better; or without a limit, what is measured. That "
        "is l2, kl, sqnr_db, cosine, top1_drop, your evaluator's score (or low_score, of which lower is better) or "
        "your metric, and within a budget it is what is to be best.",
    )
    confidence: Annotated[float | None, Flag(Heading.TARGET, "P")] = Field(
        default=None, description="Accept a plan only if so sure (0.95) of the target."
    )


@dataclass(frozen=True)
class Option:
    """A row of the table."""

    name: str
    """As Python and a file have it."""
    field: FieldInfo
    """Its type, default and description."""
    shown: Flag
    """How the command line shows it."""
    schema: Mapping[str, Any]
    """JSON Schema of its value."""

    @property
    def flag(self) -> str:
        """As the command line has it."""
        return self.shown.metavar if self.shown.is_argument else f"--{(self.shown.name or self.name).replace('_', '-')}"

    @property
    def description(self) -> str:
        """What it means, in whole."""
        return self.field.description or ""

    @property
    def help(self) -> str:
        """What it means, in a sentence."""
        first, stop, _ = self.description.partition(". ")
        return first + stop.rstrip()

    @property
    def default(self) -> str:
        """Its default as a file has it, or in words; empty where it follows from the rest."""
        return self.shown.default or _written(self.schema.get("default"))

    @property
    def type(self) -> Any:
        """The type of its value, apart from None."""
        parts = [part for part in get_args(self.field.annotation) if part is not type(None)]
        return parts[0] if len(parts) == 1 and type(None) in get_args(self.field.annotation) else self.field.annotation

    @property
    def is_list(self) -> bool:
        """Whether it may have several values."""
        return get_origin(self.type) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be; empty if it may be more than some words."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a shell can offer for its value."""
        return tuple(_words(self.type))


@cache
def options_of(kind: type[BaseModel]) -> tuple[Option, ...]:
    """Return the rows of a model's fields; what is of a search comes after what every run has."""
    schemas = kind.model_json_schema()["properties"]
    return tuple(
        Option(name, field, shown, schemas[name])
        for name, field in sorted(kind.model_fields.items(), key=lambda item: item[0] in SearchConfig.model_fields)
        for shown in field.metadata
        if isinstance(shown, Flag)
    )


LIMITS: Mapping[str, str] = {row.name: row.shown.limits for row in options_of(TargetOptions) if row.shown.limits}
"""Options that are a target's limit, and the metric that each is of."""
OF_THE_TARGET = tuple(row.name for row in options_of(TargetOptions) if not row.shown.limits)
"""What goes with a limit; without one, `metric` says what is measured."""


def flags_of(config: RunConfig) -> Iterator[tuple[str, str | None]]:
    """Yield the flags that give a configuration, each with its value; None for the value of a boolean.

    What is at its default, or follows from another flag, is left out.
    """
    yield from target_flags(config.target)
    for target in config.also:
        yield from target_flags(target.model_copy(update={"confidence": None}))
    written = config.model_dump(mode="json")
    for row in options_of(type(config)):
        if getattr(config, row.name) != _default(row, config):
            yield _flag(row, written[row.name])


def _default(row: Option, config: RunConfig) -> object:
    of_the_run = run_defaults(config.model_dump())
    if row.name in of_the_run:
        return of_the_run[row.name]
    if row.name == "narrow":
        return default_narrow(config.wide)
    if row.name == "candidates" and isinstance(config, SearchConfig):
        return default_candidates(config.wide, config.device_costs, config.narrow)
    if row.name == "layer_ops":
        return default_layer_ops(config.ladder[1:], config.runtime)
    if row.name == "cost" and config.budgets:
        return next(iter(config.budgets))
    return row.field.get_default(call_default_factory=True)


def _flag(row: Option, value: Any) -> tuple[str, str | None]:
    if isinstance(value, bool):
        return (row.flag if value else f"--no-{row.flag[2:]}"), None
    if isinstance(value, list):
        return row.flag, _as_list([number_text(one) if isinstance(one, float) else str(one) for one in value])
    return row.flag, number_text(value) if isinstance(value, float) else str(value)


def target_flags(target: Criterion) -> Iterator[tuple[str, str]]:
    """Yield the flags that give a target, each with its value."""
    if target.limit is not None:
        flag = next(name for name, metric in LIMITS.items() if metric == target.metric)
        yield f"--{flag.replace('_', '-')}", number_text(target.limit)
    elif target.function is None and target.metric != "l2":
        yield "--metric", target.metric
    if target.function is not None:
        yield "--metric", target.function
    if target.confidence is not None:
        yield "--confidence", number_text(target.confidence)


def number_text(value: float) -> str:
    """Write a number as short as reads back the same."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def listed(text: str) -> list[str]:
    """Read a list: by commas, or as JSON where a name has a comma: `a,b` or `["a", "b,c"]`."""
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    return [part.strip() for part in text.split(",")]


def _as_list(names: Sequence[str]) -> str:
    """Write a list as `listed` reads it, by commas where it can be."""
    text = ",".join(names)
    return text if listed(text) == list(names) else json.dumps(names, ensure_ascii=False)


def _words(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from (value for value in get_args(kind) if isinstance(value, str))
    else:
        for part in get_args(kind):
            yield from _words(part)


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
