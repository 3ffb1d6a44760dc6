"""Everything a finished run knows of the model that it gives out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import pyarrow as pa

from quant_core.pipeline.job import Config_co
from quant_core.pipeline.plans.study import Study
from quant_core.precision import PrecisionPlan
from quant_core.storage.references import Reference

__all__ = ["Findings", "HeldOut", "Shipped"]


@dataclass(frozen=True)
class Shipped:
    """A plan that was written to a file and measured again from there."""

    plan: PrecisionPlan
    """The plan."""
    file: Reference
    """The model file."""
    scores: pa.Table
    """What the file scores on the evaluation data (schema SCORES), opened as its runtime opens it."""
    reference: pa.Table
    """What it scores there with all optimisations off; maybe on the first samples visited only."""
    bound: float
    """The number held against the limit: its score, or the confidence bound of that."""
    met: bool
    """Whether the file meets the target."""


@dataclass(frozen=True)
class HeldOut:
    """How the shipped model does on data the search never saw."""

    baseline: pa.Table
    """Outputs of the float model."""
    scores: pa.Table
    """Terms of the shipped file (schema SCORES)."""


@dataclass(frozen=True)
class Findings(Generic[Config_co]):
    """Everything a finished run knows."""

    study: Study[Config_co]
    """What was asked, the tables it began with, and every plan evaluated."""
    ranking: pa.Table
    """Losses of single layers (schema SENSITIVITY); empty where no layer was probed."""
    shipped: Shipped
    """The model that is given out."""
    held_out: HeldOut | None
    """Its scores on held-out data, where the user gave any."""
    times: pa.Table | None = None
    """How long models take (schema MODEL_TIMES), the wide one only where that was asked for; None: not known."""
