"""Puts two quantized ONNX files of one float model side by side, of any tool."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from quant_core.config.inputs import NOTHING_SAID, InputsConfig
from quant_core.execution.machine import Machine, available_cores
from quant_core.model.model_file import refer_model
from quant_core.model.preparation.fixed_inputs import with_fixed_inputs
from quant_core.pipeline.file_comparison.lines import NAMES, comparison_lines
from quant_core.pipeline.file_comparison.measured_file import (
    MeasuredFile,
    furthest_samples,
    measured_file,
    setting_of,
)
from quant_core.probing.shared_tensors import TensorErrors, tensor_errors
from quant_core.report.tables.samples import answer_text, label_text, picture_url
from quant_core.report.text import number
from quant_core.results.comparison import Comparison, Difference, LayerDifference, SampleDifference
from quant_core.runtimes.layer_precisions import UNKNOWN, StoredLayer
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.disagreement import Disagreement
from quant_core.storage.data import DataSource
from quant_core.storage.references import fetch

__all__ = ["compare_files"]


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
            for reference, name in zip(given, NAMES, strict=True)
        ]
        references = [refer_model(path) for path in paths]
        setting = setting_of(float_model, evaluation, profile, paths, said, Machine(folder, available_cores()))
        files = [measured_file(reference, path, setting) for reference, path in zip(references, paths, strict=True)]
        errors = tensor_errors(paths, setting.layers, setting.data, setting.machine)
        layers = _matched(*(file.layers for file in files))
        return Comparison(
            first=str(given[0]),
            second=str(given[1]),
            caveats=_caveats(files, layers, profile),
            lines=tuple(comparison_lines(files, setting)),
            layers=tuple(layer for layer in layers if layer.first != layer.second or layer.first == UNKNOWN),
            of=len(layers),
            kind="models",
            tensors=tuple(Difference(error.tensor, *map(_decibels, error.decibels)) for error in errors),
            samples=tuple(map(_sample, furthest_samples(files, setting))),
        ), errors


def _caveats(
    files: Sequence[MeasuredFile], layers: Sequence[LayerDifference], profile: RuntimeProfile
) -> tuple[str, ...]:
    found = [
        f"{name} does not run in {profile.name}: {file.refusal}"
        for name, file in zip(NAMES, files, strict=True)
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


def _decibels(value: float | None) -> str:
    return UNKNOWN if value is None else number(value)


def _sample(found: Disagreement) -> SampleDifference:
    before, one, other = map(answer_text, found.answers)
    return SampleDifference(
        found.sample, number(found.distance), label_text(found.label), (before, one, other), picture_url(found.picture)
    )
