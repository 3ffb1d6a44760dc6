"""Layer-wise mixed precision: the user chooses the plan; it is written, measured and reported as any other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from quant_core.assignments.assignment import Assignment
from quant_core.assignments.assignment_file import WrittenPlan, read_plan
from quant_core.config import LayerWiseConfig, validated
from quant_core.execution.machine import Machine, available_cores
from quant_core.execution.runner import Runner
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.steps import assign, baseline, calibrate, chosen, export, prepare, report, verify
from quant_core.precision import PrecisionPlan
from quant_core.results.outcome import Outcome
from quant_core.storage.data import DataSource

__all__ = ["PlanSource", "layer_wise", "run_layer_wise", "written_plan"]

PlanSource = str | os.PathLike[str] | Mapping[str, Sequence[str]] | PrecisionPlan
"""A plan as Python callers may give it: a file (see `assignment_file`), names by type, or a plan."""


def layer_wise(
    model: str | os.PathLike[str],
    *,
    tensors: PlanSource,
    calibration: DataSource,
    evaluation: DataSource | None = None,
    holdout: DataSource | None = None,
    config: LayerWiseConfig | None = None,
    output: str | os.PathLike[str],
    workers: int | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Outcome:
    """Quantize a model by a plan of the user's, in this process, without Prefect.

    Args:
        model: path or URL of the float ONNX model.
        tensors: which layers and tensors get which type (see `assignment`): a file, names by type, or a plan;
            everything else is wide.
        calibration: data that ranges are chosen from, as in `auto_mixed_precision`.
        evaluation: data that the finished model is measured on; the calibration data by default.
        holdout: more data that it is measured on.
        config: how numbers are chosen; by default what the plan's file says, if it is a manifest.
        output: folder or URL that receives the result.
        workers: threads that compute at once; all cores by default.
        cache: folder for intermediate files; a temporary one by default.

    Raises InputError for unusable input, and for a name that is no layer and no tensor of the model.

    """
    written = written_plan(tensors)
    settings = config or validated(LayerWiseConfig, written.settings)
    measured = calibration if evaluation is None else evaluation
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(cache or temporary)
        job = QuantizationJob.of(model, calibration, measured, holdout, settings, output, folder, written.assignment)
        return run_layer_wise(job, Runner(Machine(folder, workers or available_cores())))


def written_plan(source: PlanSource) -> WrittenPlan:
    """Return the plan a caller means."""
    if isinstance(source, PrecisionPlan):
        return WrittenPlan(Assignment.of_plan(source))
    if isinstance(source, Mapping):
        return WrittenPlan(Assignment.of(source))
    return read_plan(source)


def run_layer_wise(job: QuantizationJob[LayerWiseConfig], on: Runner) -> Outcome:
    """Run the pipeline with the plan that the user has chosen; raises as `layer_wise`."""
    layers = prepare(job, on)
    plan = assign(job, layers, on)
    histograms = calibrate(job, layers, on)
    study = baseline(job, layers, histograms, on, plan)
    return report(verify(export(chosen(study, plan), on), on), on)
