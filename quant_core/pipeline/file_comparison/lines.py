"""The lines of a comparison: what two files hold, how they score and how long they take, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from quant_core.errors import InputError
from quant_core.latency import model_times
from quant_core.pipeline.file_comparison.measured_file import MeasuredFile, Setting
from quant_core.report.text import bare_text, bytes_text, interval, number, with_unit
from quant_core.results.comparison import Difference
from quant_core.runtimes.layer_precisions import UNKNOWN
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.scoring.metrics import METRICS, scores_of

__all__ = ["NAMES", "comparison_lines"]

NAMES = ("A", "B")


def comparison_lines(files: Sequence[MeasuredFile], setting: Setting) -> list[Difference]:
    """Return a line for each thing that is compared, with what it is in either file."""
    cells = {
        "written by": [_producer(file) for file in files],
        "model file": [bytes_text(_bytes(file)) for file in files],
        "layers": [_precisions(file) for file in files],
        "computed in integers": [_integer_layers(file, setting.profile) for file in files],
        f"against the rules of {setting.profile.name}": [_broken(file, setting.profile) for file in files],
        **_score_cells(files, setting.profile),
        "time of one sample": _times(files, setting),
    }
    return [Difference(name, *pair) for name, pair in cells.items()]


def _producer(file: MeasuredFile) -> str:
    model = file.model.model
    return f"{model.producer_name} {model.producer_version}".strip() or UNKNOWN


def _bytes(file: MeasuredFile) -> int:
    return sum((file.path.parent / name).stat().st_size for name in (file.path.name, *file.reference.beside))


def _precisions(file: MeasuredFile) -> str:
    counts = Counter(layer.precision for layer in file.layers)
    return ", ".join(f"{count} {precision}" for precision, count in counts.most_common()) or "none"


def _integer_layers(file: MeasuredFile, profile: RuntimeProfile) -> str:
    if profile.kernels is None or file.refusal:
        return UNKNOWN
    try:
        kernels = profile.kernels(file.path)
    except InputError:
        return UNKNOWN
    count = sum(kernel.is_integer for kernel in kernels) + sum(layer.is_integer for layer in file.layers)
    return f"{count} of {len(file.layers)} layers"


def _broken(file: MeasuredFile, profile: RuntimeProfile) -> str:
    counts = Counter(finding.rule for finding in profile.findings(file.model))
    return ", ".join(f"{rule} ({count} nodes)" for rule, count in counts.items()) or "nothing"


def _score_cells(files: Sequence[MeasuredFile], profile: RuntimeProfile) -> dict[str, list[str]]:
    """Return every metric in the runtime, and with all optimisations off where that is something else."""
    found = {}
    tables = [table for file in files for table in (file.deployed, file.unoptimized) if table is not None]
    for name in dict.fromkeys(name for table in tables for name in scores_of(table)):
        deployed, plain = ([_score(table, name) for table in pair] for pair in zip(*map(_tables, files), strict=True))
        found[f"{with_unit(name)}, in {profile.name}" if profile.opens else with_unit(name)] = deployed
        if plain != deployed:
            found[f"{with_unit(name)}, all optimisations off"] = plain
    return found


def _tables(file: MeasuredFile) -> tuple[pa.Table | None, pa.Table | None]:
    return file.deployed, file.unoptimized


def _score(scores: pa.Table | None, metric: str) -> str:
    if scores is None:
        return UNKNOWN
    score = METRICS[metric](scores).score
    bounds = [bare_text(metric, bound) for bound in interval(score.value, score.standard_error) or ()]
    value = bare_text(metric, score.value)
    return f"{value} ({' to '.join(bounds)})" if bounds else value


def _times(files: Sequence[MeasuredFile], setting: Setting) -> list[str]:
    """Return how long each file takes, on one thread, in turns with the float model."""
    profile = setting.profile
    running = {name: file.reference for name, file in zip(NAMES, files, strict=True) if not file.refusal}
    if not profile.is_timed_here or not running:
        return [UNKNOWN] * len(files)
    table = model_times(
        setting.layers,
        {"float": setting.float_model, **running},
        setting.data,
        profile.place,
        setting.machine,
        profile.session_entries,
        runtime=profile.name,
        brief=True,
        batch_size=setting.batch_size or 1,
    )
    taken = dict(zip(table.column("model").to_pylist(), table.column("milliseconds").to_pylist(), strict=True))
    return [_time(taken.get(name), taken["float"]) for name in NAMES]


def _time(milliseconds: float | None, floats: float) -> str:
    if milliseconds is None:
        return UNKNOWN
    return f"{number(milliseconds)} ms, {number(milliseconds / floats)} of the float model's"
