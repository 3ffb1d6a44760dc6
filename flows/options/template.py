"""A commented file of options for a model, and the JSON Schema that editors check it by."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from itertools import combinations, groupby
from typing import Any

from flows.options.catalogue import auto_options
from quant_core.budget import BUDGETS
from quant_core.config import MixedPrecisionConfig
from quant_core.options import LIMITS, Option
from quant_core.pipeline.inspection import inspect_model
from quant_core.report.text import bytes_text, count_text

__all__ = ["option_schema", "option_template"]

_EXAMPLES = {"holdout": "test.npz", "max_top1_drop": "0.005", "max_l2": "0.5", "max_kl": "0.01", "max_cosine": "0.01"}
_EXAMPLES |= {"max_bops": "0.4", "max_bytes": "300kB", "max_latency": "2.5ms"}
_EXAMPLES |= {"max_metric_drop": "0.01", "metric": "my_metrics:accuracy"}
_CHOSEN = {"out": "quantized", "min_sqnr": "20"}
"""What a file begins with: 20 dB is an error of a tenth of the signal, a target that makes sense for any model."""
_WIDTH = 112


def option_template(model: str, places: Mapping[str, str]) -> str:
    """The text of a YAML file with some files and folders filled in, by option name.

    Raises InputError for what is no float model.
    """
    found = inspect_model(model)
    said = {**found["axes"], "states": found["states"]}
    lines, axes = [*_preamble(model, found)], {name: ",".join(texts) for name, texts in said.items()}
    for heading, options in groupby(auto_options(), key=lambda option: option.shown.heading):
        lines += ["", "", f"# --- {heading} ---"]
        for option in options:
            lines += ["", *_entry(option, {**places, "model": model}, axes)]
    return "\n".join(lines) + "\n"


def _preamble(model: str, found: Mapping[str, Any]) -> Iterator[str]:
    total = found["total"]
    macs = (
        "MACs unknown (open sizes follow from data)" if found["open"] else f"{count_text(total['macs'])} MACs a sample"
    )
    yield "# Options of a run:  narrowcast auto --config THIS_FILE"
    yield "# What is commented out is at its default; what must be filled in says so. The command line wins over this."
    yield "# Editors check this file as you type after:  narrowcast init --schema > narrowcast.schema.json"
    yield "# yaml-language-server: $schema=narrowcast.schema.json"
    yield "#"
    yield (f"# {model}: {len(found['layers'])} layers, {macs}, {bytes_text(total['weight_bytes'])} of weights")
    for place, tensor in enumerate(found["outputs"]):
        yield f"#   output {place}: {tensor['name']} {_shape(tensor)}, {found['signature'][tensor['name']]}"
    yield "# Data files hold an array for each input, one entry a sample, preprocessed; and `labels` for top-1:"
    for tensor in found["inputs"]:
        yield f"#   {tensor['name']} {_shape(tensor)}, {found['signature'][tensor['name']]}"


def _shape(tensor: Mapping[str, Any]) -> str:
    return (
        "[?]"
        if tensor["shape"] is None
        else f"[{', '.join('N' if dim is None else str(dim) for dim in tensor['shape'])}]"
    )


def _entry(option: Option, places: Mapping[str, str], axes: Mapping[str, str]) -> Iterator[str]:
    text = option.description
    if option.choices and not all(choice in text for choice in option.choices):
        text += f" One of: {', '.join(option.choices)}."
    if option.shown.default:
        text += f" By default: {option.default}."
    yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    if option.name in places:
        yield f"{option.name}: {json.dumps(places[option.name], ensure_ascii=False)}"
    elif option.name in _CHOSEN:
        yield f"{option.name}: {_CHOSEN[option.name]}"
    elif option.name in ("calibration", "evaluation"):
        yield f"{option.name}:   # FILL IN: a path or URL"
    else:
        default = "" if option.shown.default else option.default
        yield f"# {option.name}: {axes.get(option.name) or _EXAMPLES.get(option.name, default)}".rstrip()


def option_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a file of options."""
    config = MixedPrecisionConfig.model_json_schema()
    properties = {option.name: _as_written(option.schema) for option in auto_options()}
    without_limit = [*BUDGETS, "most_layers"]
    apart = [*(("target", name) for name in LIMITS), *combinations(BUDGETS, 2)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Options of narrowcast auto",
        "type": "object",
        "additionalProperties": False,
        "properties": {**properties, **{name: config["properties"][name] for name in ("target", "also")}},
        "not": {"anyOf": [{"required": list(pair)} for pair in apart]},
        "dependentRequired": {"max_metric_drop": ["metric"]},
        "dependentSchemas": {
            "metric": {"anyOf": [{"required": [name]} for name in ("max_metric_drop", *without_limit)]}
        },
        "$defs": config["$defs"],
    }


def _as_written(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A list may also be written with commas, as on the command line."""
    kept = {key: value for key, value in schema.items() if key != "title"}
    if schema.get("type") != "array":
        return kept
    whole = {key: kept.pop(key) for key in ("type", "items", "minItems") if key in kept}
    return kept | {"anyOf": [whole, _COMMAS]}


_COMMAS = {"type": "string", "pattern": r"^[^,]+(,[^,]+)*$"}
