"""Every option of a run: from the flags of `narrowcast auto` and the fields of the configuration, which share names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from flows.command_line.auto import auto
from flows.command_line.grouped_help import HEADINGS, heading_of
from flows.options.run_options import INPUTS, LIMITS, OF_THE_TARGET
from quant_core.config import MixedPrecisionConfig, QuantizationConfig, SearchConfig

__all__ = ["RunOption", "run_options_listed"]


@dataclass(frozen=True)
class RunOption:
    """One option."""

    name: str
    """As a file of options has it."""
    flag: str
    """As the command line has it; empty for one that only a file or Python can give."""
    description: str
    """What it means."""
    default: str
    """Written as in a file; empty where it follows from the rest."""
    heading: str
    """What it is about."""
    schema: Mapping[str, Any]
    """JSON Schema of its value."""

    @property
    def default_is_value(self) -> bool:
        """Whether the default can be written down, rather than told."""
        return " " not in self.default or self.default.startswith("[")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be; empty if it may be more than some words."""
        return tuple(self.schema.get("enum", ()))


def run_options_listed() -> list[RunOption]:
    """All options by heading, in the order of the help; those without a flag last under theirs."""
    flags = {parameter.name: parameter for parameter in auto.params}
    fields = MixedPrecisionConfig.model_json_schema()["properties"]
    names = [name for name in flags if name in (*INPUTS, *LIMITS, *OF_THE_TARGET) or name in fields]
    names += [name for name in fields if name not in flags and name != "target"]
    found = [_option(str(name), flags.get(name), fields.get(str(name))) for name in names]
    return sorted(found, key=lambda option: HEADINGS.index(option.heading))


def _option(name: str, flag: click.Parameter | None, field: Mapping[str, Any] | None) -> RunOption:
    told = (flag.help or "") if isinstance(flag, click.Option) else "The float model: an ONNX file or its URL."
    text, _, default = told.partition("[default: ")
    schema = {"description": text.strip(), **_value(flag)} if field is None else dict(field)
    return RunOption(
        name=name,
        flag=flag.opts[0] if isinstance(flag, click.Option) else "MODEL" if flag else "",
        description=schema["description"],
        default=_written(schema["default"]) if "default" in schema else default.rstrip("]").strip(),
        heading=_heading(name),
        schema=_as_written(schema),
    )


def _heading(name: str) -> str:
    """As the help has it; a field of the configuration that has no flag is told by the part it belongs to."""
    if name in QuantizationConfig.model_fields and heading_of(name) == HEADINGS[-1]:
        return "Ranges and rounding"
    if name in SearchConfig.model_fields and heading_of(name) == HEADINGS[-1]:
        return "Search"
    return heading_of(name)


def _value(flag: click.Parameter | None) -> dict[str, Any]:
    kinds: list[tuple[type, dict[str, Any]]] = [
        (click.types.FloatParamType, {"type": "number"}),
        (click.types.IntRange, {"type": "integer", "minimum": 1}),
    ]
    return next((value for kind, value in kinds if flag and isinstance(flag.type, kind)), {"type": "string"})


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _as_written(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A list of precisions may also be written with commas, as on the command line."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "minItems", "type", "items")}
    if schema.get("type") != "array":
        return {key: value for key, value in schema.items() if key != "title"}
    return kept | {"anyOf": [{key: schema[key] for key in ("type", "items", "minItems") if key in schema}, _COMMAS]}


_COMMAS = {"type": "string", "pattern": r"^[^,]+(,[^,]+)*$"}
