"""The main job: from a float model, data and a target to the narrowest model that meets it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from quant_core.config import MixedPrecisionConfig
from quant_core.execution.machine import Machine, available_cores
from quant_core.execution.runner import Runner
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.steps import baseline, calibrate, export, prepare, probe, rank, report, search, verify
from quant_core.results.outcome import Outcome
from quant_core.storage.data import DataSource

__all__ = ["auto_mixed_precision", "run_auto"]


def auto_mixed_precision(
    model: str | os.PathLike[str],
    *,
    calibration: DataSource,
    evaluation: DataSource,
    holdout: DataSource | None = None,
    config: MixedPrecisionConfig,
    output: str | os.PathLike[str],
    workers: int | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Outcome:
    """Quantize a model in this process, without Prefect; nothing is kept for the next run but the output.

    Args:
        model: path or URL of the float ONNX model.
        calibration: data that ranges are chosen from: a path or URL, arrays by input name (and `labels`), each of
            shape [samples, ...], or an object with ONNX Runtime's CalibrationDataReader interface.
        evaluation: data that layers are ranked and plans accepted on, likewise.
        holdout: data that only the finished model is measured on, likewise.
        config: precisions, target and search.
        output: folder that receives the result; of a URL, the result's folder is a copy.
        workers: threads that compute at once; all cores by default.
        cache: folder for intermediate files; a temporary one by default.

    Raises InputError for unusable input and TargetError when even the wide model misses the target, or no plan is
    within the budget, or the best one there misses the target; the best model found is then in the output folder
    nevertheless.

    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(cache or temporary)
        job = QuantizationJob.of(model, calibration, evaluation, holdout, config, output, folder)
        return run_auto(job, Runner(Machine(folder, workers or available_cores())))


def run_auto(job: QuantizationJob, on: Runner) -> Outcome:
    """Run the pipeline; raises as `auto_mixed_precision`."""
    layers = prepare(job, on)
    histograms = calibrate(job, layers, on)
    study = baseline(job, layers, histograms, on)
    losses = probe(study, on)
    ranking = rank(study, losses, on)
    decision = search(study, ranking, on)
    return report(verify(export(decision, on), on), on)
