"""What a model may cost at most: a share of what the wide model costs, or an amount with its unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

__all__ = ["BUDGETS", "Amount", "BytesField", "LatencyField", "OperationsField"]

_BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
"""In milliseconds, which the cost latency is in."""

BUDGETS: Mapping[str, str] = {"max_bops": "bops", "max_bytes": "bytes", "max_latency": "latency"}
"""Options that set a budget, and the cost that each is of."""

_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"


@dataclass(frozen=True)
class Amount:
    """The most that something may be."""

    value: float
    """Without a unit: a share of what the wide model costs, above 0 and up to 1."""
    unit: str = ""
    """As the user wrote it; empty for a share."""
    size: float = 1.0
    """Of the unit, in the unit that the cost is counted in."""

    @classmethod
    def parse(cls, cost: str, value: object) -> Amount:
        """Read an amount of a cost; raises ValueError on anything else."""
        units, example = _UNITS[cost]
        return _parsed(value, units, example)

    def of(self, wide: float) -> float:
        """The amount, where the wide model costs so much; in the cost's unit."""
        return self.value * (self.size if self.unit else wide)

    def claim(self, cost: str) -> str:
        """Return the budget of a cost as a claim: `bops <= 0.4 of the wide model`."""
        return f"{cost} <= {self}{' of the wide model' if self.is_share else ''}"

    @property
    def is_share(self) -> bool:
        """Whether it depends on what the wide model costs."""
        return not self.unit

    def __str__(self) -> str:
        short = f"{self.value:.12g}"
        return f"{short if float(short) == self.value else repr(self.value)}{self.unit}"


def _parsed(value: object, units: Mapping[str, float], example: str) -> Amount:
    if isinstance(value, Amount):
        return value
    allowed = f"a share of the wide model's up to 1 ({'0.4 or 40%' if not units else '0.4'})"
    allowed += f" or an amount with its unit ({example})" if units else ""
    match = re.fullmatch(rf"(?P<number>{_NUMBER})\s*(?P<unit>[a-zA-Z%]*)", str(value).strip())
    number, unit = (float(match["number"]), match["unit"]) if match else (0.0, "")
    if unit == "%":
        number, unit = number / 100, ""
    if number <= 0 or isinstance(value, bool) or (unit not in units if unit else number > 1):
        raise ValueError(f"{value!r} is not {allowed}")
    return Amount(number, unit, units.get(unit, 1.0))


_UNITS: Mapping[str, tuple[Mapping[str, float], str]] = {
    "bops": ({}, ""),
    "bytes": (_BYTES, "300kB"),
    "latency": (_TIMES, "2.5ms"),
}
"""Of each cost that may have a budget, the units of amounts by their size, and an example."""


def _field(cost: str) -> Any:
    """The pydantic annotation of an amount of a cost."""
    units, _ = _UNITS[cost]
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    written = {"type": "string", "pattern": rf"^{_NUMBER}\s*({'|'.join(['%', *units])})?$"}
    return (
        PlainValidator(lambda value: Amount.parse(cost, value)),
        PlainSerializer(str, return_type=str),
        WithJsonSchema({"anyOf": [share, written]}),
    )


OperationsField = Annotated[Amount, *_field("bops")]
"""Bit operations: a share."""
BytesField = Annotated[Amount, *_field("bytes")]
"""Bytes: a share, or an amount."""
LatencyField = Annotated[Amount, *_field("latency")]
"""Time of a sample: a share, or an amount."""
