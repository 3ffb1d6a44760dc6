"""The samples that the shipped model does worst on, as the report shows them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from quant_core.report.limits import short
from quant_core.report.text import number
from quant_core.scoring.worst_samples import Answer

__all__ = ["SampleRow", "answer_text", "label_text", "picture_url", "sample_rows"]


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
    before, after = (
        answer_text(Answer(row["output"], row[f"{who}_class"], row["place"], row[who])) for who in ("float", "shipped")
    )
    return SampleRow(
        sample=row["sample"],
        distance=number(row["l2"]),
        label=label_text(row["label"]),
        before=before,
        after=after,
        differs=row["float_class"] != row["shipped_class"],
        picture=picture_url(row["picture"]),
    )


def answer_text(answer: Answer) -> str:
    """Write an answer: `class 3 (0.92)`, or `logits[3] = 0.92`."""
    if answer.number is not None:
        return f"class {answer.number} ({number(answer.value)})"
    return f"{short(answer.output)}[{', '.join(map(str, answer.place or ()))}] = {number(answer.value)}"


def label_text(label: int | None) -> str:
    """Write the right class of a sample; empty where none is known."""
    return "" if label is None else f"class {label}"


def picture_url(picture: bytes | None) -> str:
    """Return a PNG file as a URL that holds it; empty for none."""
    return "" if picture is None else f"data:image/png;base64,{base64.b64encode(picture).decode()}"
