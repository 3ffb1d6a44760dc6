"""What layers take on the user's own device, from a CSV file: columns layer, precision, milliseconds."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from quant_core.errors import InputError
from quant_core.model.layers import Layer
from quant_core.precision import Precision
from quant_core.storage.references import fetch, refer
from quant_core.urls import redacted

__all__ = ["DeviceCosts", "read_device_costs"]

_COLUMNS = ("layer", "precision", "milliseconds")


@dataclass(frozen=True)
class DeviceCosts:
    """Times of layers on a device."""

    source: str
    """Where they are from, as messages may show it."""
    milliseconds: Mapping[tuple[str, Precision], float]
    """By layer and precision, for one sample."""


def read_device_costs(url: str, layers: Sequence[Layer], cache: Path) -> DeviceCosts:
    """Read a file of times; it may hold more precisions than are asked for.

    Raises InputError, with the line, for what is no time of a layer of the model.
    """
    source = redacted(url)
    try:
        text = fetch(refer(url), cache).read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{source}: is not a CSV file: {error}") from error
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if tuple(rows.fieldnames or ()) != _COLUMNS:
        raise InputError(f"{source}: its first line must be {','.join(_COLUMNS)}")
    names = {layer.name for layer in layers}
    found: dict[tuple[str, Precision], float] = {}
    for row in rows:
        place = f"{source}, line {rows.line_num}"
        choice = _layer(place, row["layer"], names), _precision(place, row["precision"])
        if choice in found:
            raise InputError(f"{place}: layer {choice[0]!r} has a second row at {choice[1]}")
        found[choice] = _milliseconds(place, row["milliseconds"])
    return DeviceCosts(source, found)


def _layer(place: str, given: str, names: set[str]) -> str:
    if given in names:
        return given
    near = get_close_matches(given, sorted(names), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "`narrowcast inspect` lists the layers"
    raise InputError(f"{place}: {given!r} is not a layer of the model; {hint}")


def _precision(place: str, given: str | None) -> Precision:
    try:
        return Precision.parse(given or "")
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _milliseconds(place: str, given: str | None) -> float:
    try:
        found = float(given or "")
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise InputError(f"{place}: milliseconds must be a number that is not negative, not {given!r}")
    return found
