"""The samples that the shipped model does worst on, as the report shows them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from quant_core.report.limits import short
from quant_core.report.text import number

__all__ = ["SampleRow", "sample_rows"]


@dataclass(frozen=True)
class SampleRow:
    """One sample."""

    sample: int
    """Its place in the evaluation data, counted from 0."""
    distance: str
    """L2 distance of the shipped model's outputs from the float model's."""
    label: str
    """The right answer; empty where none is known."""
    before: str
    """What the float model answers."""
    after: str
    """What the shipped model answers."""
    differs: bool
    """Whether they answer with different classes."""
    picture: str
    """The sample as the model reads it, as a URL that holds it; empty where it is no image."""


def sample_rows(samples: pa.Table) -> list[SampleRow]:
    """Return the samples of a table (schema SAMPLES), in its order."""
    return [_row(row) for row in samples.to_pylist()]


def _row(row: Mapping[str, Any]) -> SampleRow:
    before, after = _answers(row)
    picture = row["picture"]
    return SampleRow(
        sample=row["sample"],
        distance=number(row["l2"]),
        label="" if row["label"] is None else f"class {row['label']}",
        before=before,
        after=after,
        differs=row["float_class"] != row["shipped_class"],
        picture="" if picture is None else f"data:image/png;base64,{base64.b64encode(picture).decode()}",
    )


def _answers(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["float_class"] is not None:
        before, after = (f"class {row[f'{who}_class']} ({number(row[who])})" for who in ("float", "shipped"))
        return before, after
    place = f"{short(row['output'])}[{', '.join(map(str, row['place']))}]"
    return f"{place} = {number(row['float'])}", f"{place} = {number(row['shipped'])}"
