"""Every metric of a run, with its score in each model and the interval of each score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quant_core.manifest import Manifest, Part
from quant_core.report.text import bare_text, interval, with_unit

__all__ = ["ScoreRow", "score_rows", "spread_of"]

_PARTS: tuple[Part, ...] = ("float", "wide", "mixed", "holdout")


@dataclass(frozen=True)
class ScoreRow:
    """One metric."""

    name: str
    """As a reader calls it."""
    target: bool
    """Whether it is what the target is about."""
    cells: tuple[tuple[str, str], ...]
    """Score and 95% interval, empty where there is none: float, wide, mixed, and held-out if there is such data."""
    margins: tuple[str, ...]
    """Half of each interval, for where there is little room."""


def score_rows(manifest: Manifest) -> list[ScoreRow]:
    """Every metric of the manifest, the target's first."""
    scores, target = manifest.scores, manifest.target.metric
    names = dict.fromkeys([target, *(name for part in _PARTS for name in scores.of(part))])
    return [
        ScoreRow(with_unit(name), name == target, _cells(manifest, name), _margins(manifest, name)) for name in names
    ]


def _parts(manifest: Manifest) -> Sequence[Part]:
    return _PARTS if manifest.scores.holdout else _PARTS[:-1]


def _margins(manifest: Manifest, metric: str) -> tuple[str, ...]:
    spreads = [spread_of(manifest, part, metric) for part in _parts(manifest)]
    return tuple(bare_text(metric, (spread[1] - spread[0]) / 2, 2) if spread else "" for spread in spreads)


def _cells(manifest: Manifest, metric: str) -> tuple[tuple[str, str], ...]:
    cells = []
    for part in _parts(manifest):
        value = manifest.scores.of(part).get(metric)
        bounds = [bare_text(metric, bound) for bound in spread_of(manifest, part, metric) or ()]
        # Where the metric is there without a value, it was not finite: JSON has no word for that.
        there = metric in manifest.scores.of(part)
        cells.append((bare_text(metric, value) if there else "", " to ".join(bounds)))
    return tuple(cells)


def spread_of(manifest: Manifest, part: Part, metric: str) -> tuple[float, float] | None:
    """The 95% interval of a score; None where it has none."""
    error = manifest.standard_errors.of(part).get(metric)
    return interval(manifest.scores.of(part).get(metric), error)
