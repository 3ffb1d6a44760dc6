"""What is said of a run in words: the same in the report, in a notebook, in the terminal and in Prefect's UI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quant_core.manifest import Manifest
from quant_core.report.sentences.certainty import certainty
from quant_core.report.sentences.deployed import deployed
from quant_core.report.sentences.improvements import improvements
from quant_core.report.sentences.kernels import kernels
from quant_core.report.sentences.left_float import left_float
from quant_core.report.sentences.outputs import outputs
from quant_core.report.sentences.speed import speed
from quant_core.report.sentences.verdict import doubt, headline, is_met, verdict

__all__ = ["Summary", "summary"]


@dataclass(frozen=True)
class Summary:
    """A run in words."""

    headline: str
    """The outcome in two words."""
    good: bool
    """Whether it is what was asked for."""
    verdict: str
    """The outcome in one sentence, with its numbers."""
    doubt: str
    """What held-out data and the intervals say against it; empty if nothing."""
    details: tuple[str, ...]
    """Sentences on how sure it is, where a confidence was asked for, on what made layers better at equal bits, on what
    stays in float, and on speed."""


def summary(manifest: Manifest) -> Summary:
    """The words on the run that a manifest is of."""
    return Summary(
        headline=headline(manifest),
        good=is_met(manifest),
        verdict=verdict(manifest),
        doubt=doubt(manifest),
        details=tuple(filter(None, _details(manifest))),
    )


def _details(manifest: Manifest) -> Iterator[str]:
    yield from certainty(manifest)
    yield from deployed(manifest)
    yield from outputs(manifest)
    yield from improvements(manifest)
    yield from left_float(manifest)
    yield from kernels(manifest)
    yield from speed(manifest)
