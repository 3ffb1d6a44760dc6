"""What models score, by metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from quant_core.manifest.record import Record, Score

__all__ = ["ByMetric", "OutputScores", "Part", "Scores"]

Part = Literal["float", "wide", "mixed", "holdout"]
"""What was measured: the float model, the wide one, the shipped one, and that on held-out data."""

ByMetric = Mapping[str, Score]
"""Numbers by the metric's name."""


class Scores(Record):
    """Numbers by metric, for each model that was measured: scores, or their standard errors."""

    float: ByMetric = Field(default_factory=dict)
    """Of the float model."""
    wide: ByMetric = Field(default_factory=dict)
    """Of the model with all layers wide."""
    mixed: ByMetric = Field(default_factory=dict)
    """Of the shipped file, on the evaluation data."""
    holdout: ByMetric = Field(default_factory=dict)
    """Of the shipped file, on held-out data; empty where there is none."""

    def of(self, part: Part) -> ByMetric:
        """Return the numbers of one model."""
        return {"float": self.float, "wide": self.wide, "mixed": self.mixed, "holdout": self.holdout}[part]


class OutputScores(Record):
    """Scores of one of several outputs, or of a part of one whose channels are of unlike scale."""

    output: str
    """The output's name."""
    channels: str
    """The channels (`0-3 on axis 1`, with the samples on axis 0); empty for the whole output."""
    wide: ByMetric
    """Of the wide model, by metric."""
    mixed: ByMetric
    """Of the shipped model."""
