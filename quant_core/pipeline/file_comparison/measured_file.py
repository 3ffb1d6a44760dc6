"""A quantized file beside others of the same float model: what it holds, and how it scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from quant_core.config import LayerWiseConfig, validated
from quant_core.config.inputs import InputsConfig
from quant_core.errors import InputError, first_line
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.model.data.batches import fixed_batch
from quant_core.model.graph import FloatGraph
from quant_core.model.preparation.fixed_inputs import with_fixed_inputs
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.steps import prepare
from quant_core.runtimes.layer_precisions import StoredLayer, stored_layers
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.written_model import WrittenModel
from quant_core.scoring.disagreement import Disagreement, disagreements
from quant_core.scoring.evaluation import score_file
from quant_core.scoring.float_outputs import float_outputs
from quant_core.scoring.shipped_file import open_shipped
from quant_core.storage.data import DataSource
from quant_core.storage.references import Reference, fetch

__all__ = ["MeasuredFile", "Setting", "furthest_samples", "measured_file", "setting_of"]


@dataclass(frozen=True)
class Setting:
    """What both files are measured by."""

    profile: RuntimeProfile
    """The runtime that they are opened in."""
    float_model: Reference
    """The float model of both."""
    layers: pa.Table
    """Its layers (schema LAYERS)."""
    baseline: pa.Table
    """Its outputs on the data, one row a sample."""
    data: Reference
    """The samples."""
    batch_size: int | None
    """Samples a forward pass, where one of the files fixes that."""
    machine: Machine
    """Threads and cache."""


@dataclass(frozen=True)
class MeasuredFile:
    """A file, and how it does."""

    reference: Reference
    """Where it is kept, with its digest."""
    path: Path
    """The same file on this machine."""
    model: WrittenModel
    """Its graph, with the pairs read."""
    layers: Sequence[StoredLayer]
    """Its layers and their precisions."""
    deployed: pa.Table | None
    """Scores as the runtime opens it (schema SCORES); None where it does not run."""
    unoptimized: pa.Table | None
    """Scores with all optimisations off, likewise."""
    refusal: str
    """Why it does not run there; empty where it does."""


def setting_of(
    float_model: str | os.PathLike[str],
    evaluation: DataSource,
    profile: RuntimeProfile,
    paths: Sequence[Path],
    said: InputsConfig,
    machine: Machine,
) -> Setting:
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
    return Setting(profile, job.model, layers, baseline, job.evaluation, batch_size, machine)


def _check_ends(path: Path, graph: FloatGraph, floats: FloatGraph) -> None:
    """Raise InputError for a file with other inputs or outputs than the float model."""
    for part, ours, theirs in (("inputs", graph.inputs, floats.inputs), ("outputs", graph.outputs, floats.outputs)):
        if set(ours) != set(theirs):
            raise InputError(
                f"{path}: has {part} {', '.join(ours)}, and the float model {', '.join(theirs)}: it is not made of it"
            )


def measured_file(reference: Reference, path: Path, setting: Setting) -> MeasuredFile:
    """Read a file, and score it in the runtime and, where that is one that is run here, with optimisations off too."""
    model = WrittenModel.of_file(path)
    deployed, refusal = _scored(reference, setting, setting.profile.name)
    pairs, _ = (deployed, "") if setting.profile.opens is None else _scored(reference, setting, "reference")
    return MeasuredFile(reference, path, model, stored_layers(model), deployed, pairs, refusal)


def _scored(reference: Reference, setting: Setting, runtime: str) -> tuple[pa.Table | None, str]:
    """Return the scores of a file, or none and why it does not run."""
    one = setting
    try:
        return score_file(reference, one.layers, one.baseline, one.data, None, one.batch_size, one.machine, runtime), ""
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        return None, first_line(error)


def furthest_samples(files: Sequence[MeasuredFile], setting: Setting) -> list[Disagreement]:
    """Return the samples on which two files are farthest apart; none where one of them does not run."""
    if any(file.refusal for file in files):
        return []
    one = setting
    graph = prepared_graph(one.layers, one.machine.cache)
    first, second = (open_shipped(file.reference, graph, one.profile.name, one.machine) for file in files)
    return disagreements(first, second, one.layers, one.baseline, one.data, one.batch_size, one.machine)
