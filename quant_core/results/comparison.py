"""Two results side by side, runs or model files: what they cost and score, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from quant_core.manifest import Manifest, Part
from quant_core.report.sentences.verdict import claims, is_met, on_random_data
from quant_core.report.tables.costs import Cost, costs
from quant_core.report.tables.scores import spread_of
from quant_core.report.text import bare_text, bytes_text, number, percent, with_unit
from quant_core.results.outcome import Outcome

__all__ = ["Comparison", "Difference", "LayerDifference", "SampleDifference", "compare"]

_PARTS: Mapping[Part, str] = {"wide": "all wide", "mixed": "as shipped", "holdout": "held-out"}


@dataclass(frozen=True)
class Difference:
    """One line of the comparison."""

    name: str
    """What is compared."""
    first: str
    """In the first one."""
    second: str
    """In the second one."""

    @property
    def same(self) -> bool:
        """Whether both have the same."""
        return self.first == self.second


@dataclass(frozen=True)
class LayerDifference:
    """A layer that has different precisions, or that one of both does not have."""

    layer: str
    """Its name."""
    first: str
    """Precision in the first one; empty if it has no such layer."""
    second: str
    """Precision in the second one; empty if it has no such layer."""
    loss: str = ""
    """What narrowing it alone costs, as the first run that probed it saw it; empty if none did."""


@dataclass(frozen=True)
class SampleDifference:
    """A sample on which two model files are furthest apart."""

    sample: int
    """Its place in the data, counted from 0."""
    distance: str
    """L2 distance of the outputs of one file from those of the other."""
    label: str
    """The right class; empty where none is known."""
    answers: tuple[str, str, str]
    """Of the float model, the first file and the second one."""
    picture: str
    """The sample as a URL that holds it; empty where it is no image."""


@dataclass(frozen=True)
class Comparison:
    """Two runs or two model files side by side."""

    first: str
    """Folder of the first run, or the first file."""
    second: str
    """Folder of the second run, or the second file."""
    caveats: tuple[str, ...]
    """Why the numbers may not be comparable; empty if they are."""
    lines: tuple[Difference, ...]
    """Cost, scores, times, and of runs what was asked."""
    layers: tuple[LayerDifference, ...]
    """Layers whose precision differs, in graph order."""
    of: int
    """Layers in either."""
    kind: Literal["runs", "models"] = "runs"
    """What they are."""
    tensors: tuple[Difference, ...] = ()
    """Of model files: the error of each tensor that one of them has by the name of the float model's, as SQNR in dB."""
    samples: tuple[SampleDifference, ...] = ()
    """Of model files: the samples on which they are furthest apart, the furthest first."""


def compare(first: Outcome, second: Outcome) -> Comparison:
    """Put two runs side by side; raises InputError where a table of theirs cannot be read."""
    names = dict.fromkeys([*first.manifest.plan, *second.manifest.plan])
    return Comparison(
        first=str(first.folder),
        second=str(second.folder),
        caveats=_caveats(first.manifest, second.manifest),
        lines=(*_costs(first, second), *_scores(first.manifest, second.manifest), *_settings(first, second)),
        layers=_layers(first, second, names),
        of=len(names),
    )


def _caveats(first: Manifest, second: Manifest) -> tuple[str, ...]:
    found = []
    if first.input != second.input:
        found.append("not the same float model")
    digests = {
        "evaluation data": (first.data.evaluation, second.data.evaluation),
        "held-out data": (first.data.holdout, second.data.holdout),
        "calibration data": (first.data.calibration, second.data.calibration),
    }
    found += [f"not the same {name}" for name, (one, other) in digests.items() if one and other and one != other]
    if first.config.get("output") != second.config.get("output"):
        found.append("not the same model output was compared")
    return tuple(found)


def _ending(run: Manifest) -> str:
    return f"{'met' if is_met(run) else 'missed'}{on_random_data(run.data.random)}"


def _costs(first: Outcome, second: Outcome) -> list[Difference]:
    both = first.manifest, second.manifest
    shipped = [_shipped_cost(run) for run in (first, second)]
    cells = {
        "target": [f"{claims(run)}, {_ending(run)}" for run in both],
        "layers narrowed": [f"{run.narrowed.layers} of {run.narrowed.of}" for run in both],
        "of the MACs": [percent(run.narrowed.macs_share, 1) for run in both],
        "bit operations": [f"{cost.bops}, {percent(cost.bops_share, 1)} of all wide" for cost in shipped],
        "weights of layers": [f"{cost.size}, {percent(cost.size_share, 1)} of float32" for cost in shipped],
        "model file": [bytes_text(run.output.bytes) for run in both],
    }
    return [Difference(name, *pair) for name, pair in cells.items()]


def _shipped_cost(run: Outcome) -> Cost:
    return next(cost for cost in costs(run.manifest, run.table("layers")) if cost.shipped)


def _scores(first: Manifest, second: Manifest) -> list[Difference]:
    target = first.target.metric
    found = []
    metrics = dict.fromkeys([target, *first.scores.mixed, *second.scores.mixed])
    for metric in metrics:
        for part, name in _PARTS.items():
            pair = [_score(run, part, metric) for run in (first, second)]
            if any(pair):
                found.append(Difference(f"{with_unit(metric)}, {name}", *pair))
    return found


def _score(manifest: Manifest, part: Part, metric: str) -> str:
    scores = manifest.scores.of(part)
    if metric not in scores:
        return ""
    bounds = [bare_text(metric, bound) for bound in spread_of(manifest, part, metric) or ()]
    value = bare_text(metric, scores[metric])
    return f"{value} ({' to '.join(bounds)})" if bounds else value


def _settings(first: Outcome, second: Outcome) -> list[Difference]:
    """Settings that differ, the target apart."""
    both = first.manifest.config, second.manifest.config
    names = [name for name in dict.fromkeys([*both[0], *both[1]]) if name != "target"]
    pairs = [Difference(name, *(_written(config.get(name)) for config in both)) for name in names]
    return [pair for pair in pairs if not pair.same]


def _written(value: JsonValue) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _layers(first: Outcome, second: Outcome, names: Mapping[str, None]) -> tuple[LayerDifference, ...]:
    plans = [run.manifest.plan for run in (first, second)]
    losses: dict[str, str] = {}
    for run in (first, second):
        for row in run.table("sensitivity").to_pylist():
            losses.setdefault(row["layer"], f"{number(row['loss'])} at {row['precision']}")
    return tuple(
        LayerDifference(name, plans[0].get(name, ""), plans[1].get(name, ""), losses.get(name, ""))
        for name in names
        if plans[0].get(name) != plans[1].get(name)
    )
