"""How the report writes numbers."""

from __future__ import annotations

import math

__all__ = [
    "COST_NAMES",
    "METRIC_NAMES",
    "UNITS",
    "bare_text",
    "bytes_text",
    "cost_text",
    "count_text",
    "interval",
    "limit_text",
    "metric_text",
    "number",
    "percent",
    "with_unit",
]

METRIC_NAMES = {
    "l2": "L2 distance",
    "sqnr_db": "SQNR",
    "kl": "KL divergence",
    "cosine": "Cosine distance",
    "top1": "Top-1",
    "top1_drop": "Top-1 drop",
    "metric": "Your metric",
    "metric_drop": "Drop of your metric",
    "score": "Score",
    "score_drop": "Score drop",
    "low_score": "Score, lower is better",
    "score_rise": "Score rise",
}
"""Metrics as a reader calls them."""

COST_NAMES = {
    "bops": "bit operations",
    "bytes": "weight bytes",
    "activation-bytes": "bytes of what layers read",
    "latency": "time in the layers",
}
"""Costs as a reader calls them."""

_MINUS = "\N{MINUS SIGN}"

_Z = 1.959964
"""A normal value lies within this many standard errors of its mean 95% of the time."""


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits."""
    if value is None or math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else _MINUS + "∞"
    size = abs(value)
    if value and not 1e-3 <= size < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    else:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}" if value else "0"
    return text.replace("-", _MINUS)


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage. Nearly all is not all, and next to nothing is not nothing."""
    text = f"{100 * share:.{digits}f}"
    if float(text) == 0 and share > 0:
        return f"<{10.0**-digits:.{digits}f}%"
    if float(text) == 100 and share < 1:
        return f">{100 - 10.0 ** -max(digits, 1):.{max(digits, 1)}f}%"
    return f"{text}%".replace("-", _MINUS)


UNITS = {"sqnr_db": "dB", "top1": "%", "top1_drop": "points"}
"""What some metrics are written in."""


def bare_text(metric: str, value: float | None, digits: int = 3) -> str:
    """A score in its metric's unit, without the unit; `digits` are significant ones."""
    if value is not None and math.isfinite(value) and metric in ("top1", "top1_drop"):
        return f"{100 * value:.2f}".replace("-", _MINUS)
    return number(value, digits)


def metric_text(metric: str, value: float | None) -> str:
    """A score with its metric's unit."""
    return f"{bare_text(metric, value)} {UNITS.get(metric, '')}".strip().replace(" %", "%")


def with_unit(metric: str) -> str:
    """A metric's name with the unit its values are written in."""
    name = METRIC_NAMES.get(metric, metric)
    return f"{name} ({UNITS[metric]})" if metric in UNITS else name


def limit_text(metric: str, limit: float) -> str:
    """A limit as the user wrote it, in its metric's unit."""
    value = f"{100 * limit if metric == 'top1_drop' else limit:.6g}".replace("-", _MINUS)
    return f"{value} {UNITS.get(metric, '')}".strip()


def interval(value: float | None, standard_error: float | None) -> tuple[float, float] | None:
    """The 95% interval of a score; None where it has none."""
    if value is None or standard_error is None or not (math.isfinite(value) and math.isfinite(standard_error)):
        return None
    return value - _Z * standard_error, value + _Z * standard_error


_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def count_text(count: float, unit: str = "") -> str:
    """A large number with a decimal prefix: 41.3 M."""
    size = float(count)
    for prefix in _PREFIXES:
        if size < 999.5 or prefix == _PREFIXES[-1]:
            break
        size /= 1000
    digits = 0 if float(count) < 1000 or size >= 100 else 1
    return f"{size:.{digits}f} {prefix}{unit}".strip()


def bytes_text(count: float) -> str:
    """A number of bytes: 334 kB."""
    return count_text(count, "B")


def cost_text(name: str, value: float) -> str:
    """Write what a plan costs, with its unit: 334 kB, 2.4 ms, 41.3 M bit operations."""
    if name == "latency":
        return f"{number(value)} ms"
    return bytes_text(value) if "bytes" in name else count_text(value, " bit operations").replace("  ", " ")
