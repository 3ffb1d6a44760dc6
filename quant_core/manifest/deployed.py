"""How the shipped file does in the runtime that it is for."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from quant_core.manifest.record import Record
from quant_core.manifest.scores import ByMetric
from quant_core.manifest.times import Pace

__all__ = ["Deployed", "LayerRun"]


class LayerRun(Record):
    """What a layer of the shipped file runs as in its runtime."""

    layer: str
    """Its node in the file; where a runtime leaves other nodes to the processor, one of those."""
    runs_as: str
    """Kernel, and its precision where the runtime tells; empty where it does not tell."""
    is_integer: bool
    """Whether that adds up codes."""
    why: str = ""
    """Why it does not."""


class Deployed(Record):
    """How the shipped file does in the runtime that it is for; its scores there are those of `mixed`."""

    runtime: str
    """Name of the runtime."""
    processor: str = ""
    """Where it was scored, for runtimes whose numbers depend on it."""
    assumes: str = ""
    """What must hold on the machine where it is deployed for the scores to hold; empty: nothing."""
    session: Mapping[str, str] = Field(default_factory=dict)
    """Session options that an application has to set."""
    reference: ByMetric = Field(default_factory=dict)
    """Its scores on the evaluation data with all optimisations off: what the pairs say."""
    reference_samples: int | None = None
    """Samples that those were computed on; for the others the difference to the runtime's is taken to be alike."""
    differs: bool = False
    """Whether the two differ by more than the samples leave open."""
    reasons: tuple[str, ...] = ()
    """What is computed otherwise than the pairs say, where they differ."""
    layers: tuple[LayerRun, ...] = ()
    """What layers run as, where the runtime is run here."""
    pace: Pace | None = None
    """How fast it is; None where the runtime is not run here, or its times there mean nothing."""
    faster: str = ""
    """What would be faster, where it is slower than the float model: options, and why."""
