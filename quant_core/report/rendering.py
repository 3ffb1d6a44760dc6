"""Pages from templates, with everything they need inside them: style, scripts, and what the charts draw."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from quant_core.report.text import bytes_text, count_text, percent

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["compile_template", "fragment", "packed", "rendered"]

_HERE = Path(__file__).parent
_TEMPLATES = _HERE / "templates"
_SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "templates/charts.js")


def rendered(template: str, charts: Mapping[str, Any], **values: Any) -> str:
    """A page with these charts in it.

    It asks for nothing: its policy forbids every request, and every script but those put in here, so that names
    from a model stay text whatever they contain.
    """
    scripts = [(_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    return fragment(
        template,
        charts=charts,
        data=packed(charts),
        style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        script_digests=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        **values,
    )


def fragment(template: str, **values: Any) -> str:
    """Render a template with values."""
    return _environment().get_template(template).render(**values)


def compile_template(template: str) -> None:
    """Compile a template before it is needed, in time that has to be waited anyway."""
    _environment().get_template(template)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # once a page is to be written

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "bytes_text": bytes_text, "count_text": count_text, "pretty": _pretty}
    return environment


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2)


def _digest(script: str) -> str:
    """A script as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def packed(charts: Mapping[str, Any]) -> str:
    """Pack a value for charts.js: JSON, compressed (it is a fifth of the size), in base64."""
    content = json.dumps(_compact(charts), separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(content.encode(), 9)).decode()


def _compact(value: Any) -> Any:
    """The value with floats as exact as a chart can show them; JSON knows no infinity and no NaN."""
    if isinstance(value, Mapping):
        return {key: _compact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_compact(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value
