"""Puts two quantized ONNX files of one float model side by side, whoever wrote them."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from quant_core.config import LayerWiseConfig, validated
from quant_core.config.inputs import NOTHING_SAID, InputsConfig
from quant_core.errors import InputError, first_line
from quant_core.execution.machine import Machine, available_cores
from quant_core.execution.runner import Runner
from quant_core.latency import model_times
from quant_core.model.data.batches import fixed_batch
from quant_core.model.graph import FloatGraph
from quant_core.model.model_file import refer_model
from quant_core.model.preparation.fixed_inputs import with_fixed_inputs
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.steps import prepare
from quant_core.probing.shared_tensors import TensorErrors, tensor_errors
from quant_core.report.tables.samples import answer_text, label_text, picture_url
from quant_core.report.text import bare_text, bytes_text, interval, number, with_unit
from quant_core.results.comparison import Comparison, Difference, LayerDifference, SampleDifference
from quant_core.runtimes.layer_precisions import UNKNOWN, StoredLayer, stored_layers
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.registry import profile_of
from quant_core.runtimes.written_model import WrittenModel
from quant_core.scoring.disagreement import Disagreement, disagreements
from quant_core.scoring.evaluation import score_file
from quant_core.scoring.float_outputs import float_outputs
from quant_core.scoring.metrics import METRICS, scores_of
from quant_core.scoring.shipped_file import open_shipped
from quant_core.storage.data import DataSource
from quant_core.storage.references import Reference, fetch

__all__ = ["compare_files"]

_NAMES = ("A", "B")


@dataclass(frozen=True)
class _Setting:
    """What both files are measured by."""

    profile: RuntimeProfile
    float_model: Reference
    layers: pa.Table
    baseline: pa.Table
    data: Reference
    batch_size: int | None
    machine: Machine


@dataclass(frozen=True)
class _File:
    """A file, and how it does."""

    reference: Reference
    path: Path
    model: WrittenModel
    layers: Sequence[StoredLayer]
    deployed: pa.Table | None
    """Scores as the runtime opens it (schema SCORES); None where it does not run."""
    unoptimized: pa.Table | None
    """Scores with all optimisations off, likewise."""
    refusal: str
    """Why it does not run there; empty where it does."""


def compare_files(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    float_model: str | os.PathLike[str],
    evaluation: DataSource,
    runtime: str = "onnxruntime",
    said: InputsConfig = NOTHING_SAID,
) -> tuple[Comparison, list[TensorErrors]]:
    """Compare two quantized files on some data: the comparison in words, and the errors of tensors inside them.

    Args:
        first: path or URL of one file.
        second: of the other.
        float_model: of the float model that both were made of.
        evaluation: the data.
        runtime: the runtime's name.
        said: what is said of inputs and outputs: axes, states, and inputs that are fixed in the float model, and in a
            file that still has them.

    Raises InputError for an unknown runtime, and for a model or data that cannot be used. A file that does not run is
    compared as far as it can be read.

    """
    profile = profile_of(runtime)
    profile.check_package()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = [refer_model(place) for place in (first, second)]
        paths = [
            with_fixed_inputs(fetch(reference, folder), said.fix_inputs, folder / name)
            for reference, name in zip(given, _NAMES, strict=True)
        ]
        references = [refer_model(path) for path in paths]
        setting = _setting(float_model, evaluation, profile, paths, said, Machine(folder, available_cores()))
        files = [_measured(reference, path, setting) for reference, path in zip(references, paths, strict=True)]
        errors = tensor_errors(paths, setting.layers, setting.data, setting.machine)
        layers = _matched(*(file.layers for file in files))
        return Comparison(
            first=str(given[0]),
            second=str(given[1]),
            caveats=_caveats(files, layers, profile),
            lines=tuple(_lines(files, setting)),
            layers=tuple(layer for layer in layers if layer.first != layer.second or layer.first == UNKNOWN),
            of=len(layers),
            kind="models",
            tensors=tuple(Difference(error.tensor, *map(_decibels, error.decibels)) for error in errors),
            samples=tuple(map(_sample, _furthest(files, setting))),
        ), errors


def _setting(
    float_model: str | os.PathLike[str],
    evaluation: DataSource,
    profile: RuntimeProfile,
    paths: Sequence[Path],
    said: InputsConfig,
    machine: Machine,
) -> _Setting:
    """Prepare the float model and run it on the data."""
    config = validated(LayerWiseConfig, {"runtime": profile.name, **said.model_dump()})
    output = machine.cache / "output"
    job = QuantizationJob.of(float_model, evaluation, evaluation, None, config, output, machine.cache)
    layers = prepare(job, Runner(machine))
    graphs = [FloatGraph.load(path) for path in paths]
    floats = with_fixed_inputs(fetch(job.model, machine.cache), said.fix_inputs, machine.cache / "float")
    for path, graph in zip(paths, graphs, strict=True):
        _check_ends(path, graph, FloatGraph.load(floats))
    batch_size = next(filter(None, map(fixed_batch, graphs)), None)
    baseline = float_outputs(job.model, layers, job.evaluation, "all", None, batch_size, machine)
    return _Setting(profile, job.model, layers, baseline, job.evaluation, batch_size, machine)


def _check_ends(path: Path, graph: FloatGraph, floats: FloatGraph) -> None:
    """Raise InputError for a file with other inputs or outputs than the float model."""
    for part, ours, theirs in (("inputs", graph.inputs, floats.inputs), ("outputs", graph.outputs, floats.outputs)):
        if set(ours) != set(theirs):
            raise InputError(
                f"{path}: has {part} {', '.join(ours)}, and the float model {', '.join(theirs)}: it is not made of it"
            )


def _measured(reference: Reference, path: Path, setting: _Setting) -> _File:
    model = WrittenModel.of_file(path)
    deployed, refusal = _scored(reference, setting, setting.profile.name)
    pairs, _ = (deployed, "") if setting.profile.opens is None else _scored(reference, setting, "reference")
    return _File(reference, path, model, stored_layers(model), deployed, pairs, refusal)


def _scored(reference: Reference, setting: _Setting, runtime: str) -> tuple[pa.Table | None, str]:
    """Return the scores of a file, or none and why it does not run."""
    one = setting
    try:
        return score_file(reference, one.layers, one.baseline, one.data, None, one.batch_size, one.machine, runtime), ""
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        return None, first_line(error)


def _caveats(files: Sequence[_File], layers: Sequence[LayerDifference], profile: RuntimeProfile) -> tuple[str, ...]:
    found = [
        f"{name} does not run in {profile.name}: {file.refusal}"
        for name, file in zip(_NAMES, files, strict=True)
        if file.refusal
    ]
    alone = sum(not layer.first or not layer.second for layer in layers)
    if alone:
        found.append(
            f"{alone} of {len(layers)} layers are in one of the files only: layers are the same that have the same "
            "name, or write the same tensor"
        )
    if profile.opens is None:
        found.append(f"{profile.name} is not run here: scores are those of the Q/DQ pairs")
    return tuple(found)


def _matched(first: Sequence[StoredLayer], second: Sequence[StoredLayer]) -> list[LayerDifference]:
    """Return all layers of both files: those of the first in graph order, then what only the second has."""
    left = {layer.name: layer for layer in second}
    writers = {layer.writes: layer for layer in second}
    found = []
    for layer in first:
        other = left.get(layer.name)
        if other is None and (same := writers.get(layer.writes)) is not None:
            other = left.get(same.name)
        if other is not None:
            del left[other.name]
        found.append(LayerDifference(layer.name, layer.precision, "" if other is None else other.precision))
    return [*found, *(LayerDifference(layer.name, "", layer.precision) for layer in left.values())]


def _lines(files: Sequence[_File], setting: _Setting) -> list[Difference]:
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


def _producer(file: _File) -> str:
    model = file.model.model
    return f"{model.producer_name} {model.producer_version}".strip() or UNKNOWN


def _bytes(file: _File) -> int:
    return sum((file.path.parent / name).stat().st_size for name in (file.path.name, *file.reference.beside))


def _precisions(file: _File) -> str:
    counts = Counter(layer.precision for layer in file.layers)
    return ", ".join(f"{count} {precision}" for precision, count in counts.most_common()) or "none"


def _integer_layers(file: _File, profile: RuntimeProfile) -> str:
    if profile.kernels is None or file.refusal:
        return UNKNOWN
    try:
        kernels = profile.kernels(file.path)
    except InputError:
        return UNKNOWN
    count = sum(kernel.is_integer for kernel in kernels) + sum(layer.is_integer for layer in file.layers)
    return f"{count} of {len(file.layers)} layers"


def _broken(file: _File, profile: RuntimeProfile) -> str:
    counts = Counter(finding.rule for finding in profile.findings(file.model))
    return ", ".join(f"{rule} ({count} nodes)" for rule, count in counts.items()) or "nothing"


def _score_cells(files: Sequence[_File], profile: RuntimeProfile) -> dict[str, list[str]]:
    """Return every metric in the runtime, and with all optimisations off where that is something else."""
    found = {}
    tables = [table for file in files for table in (file.deployed, file.unoptimized) if table is not None]
    for name in dict.fromkeys(name for table in tables for name in scores_of(table)):
        deployed, plain = ([_score(table, name) for table in pair] for pair in zip(*map(_tables, files), strict=True))
        found[f"{with_unit(name)}, in {profile.name}" if profile.opens else with_unit(name)] = deployed
        if plain != deployed:
            found[f"{with_unit(name)}, all optimisations off"] = plain
    return found


def _tables(file: _File) -> tuple[pa.Table | None, pa.Table | None]:
    return file.deployed, file.unoptimized


def _score(scores: pa.Table | None, metric: str) -> str:
    if scores is None:
        return UNKNOWN
    score = METRICS[metric](scores).score
    bounds = [bare_text(metric, bound) for bound in interval(score.value, score.standard_error) or ()]
    value = bare_text(metric, score.value)
    return f"{value} ({' to '.join(bounds)})" if bounds else value


def _times(files: Sequence[_File], setting: _Setting) -> list[str]:
    """Return how long each file takes, on one thread, turn about with the float model."""
    profile = setting.profile
    running = {name: file.reference for name, file in zip(_NAMES, files, strict=True) if not file.refusal}
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
    return [_time(taken.get(name), taken["float"]) for name in _NAMES]


def _time(milliseconds: float | None, floats: float) -> str:
    if milliseconds is None:
        return UNKNOWN
    return f"{number(milliseconds)} ms, {number(milliseconds / floats)} of the float model's"


def _decibels(value: float | None) -> str:
    return UNKNOWN if value is None else number(value)


def _furthest(files: Sequence[_File], setting: _Setting) -> list[Disagreement]:
    if any(file.refusal for file in files):
        return []
    one = setting
    graph = prepared_graph(one.layers, one.machine.cache)
    first, second = (open_shipped(file.reference, graph, one.profile.name, one.machine) for file in files)
    return disagreements(first, second, one.layers, one.baseline, one.data, one.batch_size, one.machine)


def _sample(found: Disagreement) -> SampleDifference:
    before, one, other = map(answer_text, found.answers)
    return SampleDifference(
        found.sample, number(found.distance), label_text(found.label), (before, one, other), picture_url(found.picture)
    )
