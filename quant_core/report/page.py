"""The page itself: texts and charts poured into the template, with everything it needs inside it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from quant_core.report.charts import loss_chart, search_chart, tensor_charts
from quant_core.report.continuing import command, next_step
from quant_core.report.text import bytes_text, count_text, percent
from quant_core.report.verdict import costs, doubt, layer_rows, score_rows, verdict

__all__ = ["report_page"]

_HERE = Path(__file__).parent
_SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "charts.js")


def report_page(manifest: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """The page of a run, from its manifest and its tables `layers`, `calibration`, `sensitivity` and `search`.

    One file that asks for nothing: its policy forbids every request, and every script but those put in here, so
    that names from a model stay text whatever they contain.
    """
    layers, sensitivity, search = tables["layers"], tables["sensitivity"], tables["search"]
    charts: dict[str, Any] = {
        "loss": loss_chart(manifest, layers, sensitivity),
        "search": search_chart(manifest, search),
        "tensors": tensor_charts(manifest, layers, tables["calibration"]),
    }
    rows = layer_rows(manifest, layers, sensitivity)
    scripts = [(_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            manifest=manifest,
            verdict=verdict(manifest),
            doubt=doubt(manifest),
            scores=score_rows(manifest),
            costs=costs(manifest, layers),
            layers=rows,
            crossings=[(tensor["name"], types) for tensor in charts["tensors"] if len(types := _used(tensor)) > 1],
            first_tensor=_most_telling(tables),
            boundaries=sum(bool(row.boundary) for row in rows),
            charts=charts,
            data=_compact(charts),
            next_step=next_step(manifest, search),
            command=command(manifest),
            style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
            scripts=[Markup(script) for script in scripts],
            script_digests=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        )
    )


def _used(tensor: Mapping[str, Any]) -> list[str]:
    """The types a tensor has in the plan; more than one at a precision boundary."""
    return [found["type"] for found in tensor["ranges"] if found["used"]]


def _most_telling(tables: Mapping[str, pa.Table]) -> str | None:
    """The tensor to show first: what the layer that is the most sensitive reads."""
    ranked = tables["sensitivity"].column("layer").to_pylist()
    reads = {row["layer"]: row["activations"] for row in tables["layers"].select(["layer", "activations"]).to_pylist()}
    found = reads.get(ranked[-1]) if ranked else None
    return found[0] if found else None


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {"percent": percent, "bytes_text": bytes_text, "count_text": count_text, "pretty": _pretty}
    return environment


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2)


def _digest(script: str) -> str:
    """A script as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _compact(value: Any) -> Any:
    """The value with floats as exact as a chart can show them; JSON knows no infinity and no NaN."""
    if isinstance(value, Mapping):
        return {key: _compact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_compact(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value
