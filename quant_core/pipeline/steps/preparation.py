"""The first steps: check the input, prepare the model and calibrate it."""

from __future__ import annotations

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.model.data.batches import BATCH_BYTES
from quant_core.pipeline.calibration_stages import histograms
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.preflight import check_job, check_prepared
from quant_core.pipeline.stages import PREPARE
from quant_core.storage.data_forms import RandomForm
from quant_core.storage.tables import facts


def prepare(job: QuantizationJob[RunConfig], on: Runner) -> pa.Table:
    """Check all input, then fold and name the model's nodes; the layer table (schema LAYERS).

    Raises InputError for a model, data or options that cannot be used, before any work is done on them.
    """
    cache = on.machine.cache
    check_job(job, cache)
    if job.config.batch_size is None and on.machine.memory < 2 * BATCH_BYTES:
        watcher().warned(
            f"there are {on.machine.memory >> 20} MiB for each of {on.machine.workers} workers: batches may be "
            "smaller than elsewhere, and the last bit of a number another"
        )
    _tell_of_random_data(job)
    layers = on.run(PREPARE, **job.preparation)
    check_prepared(layers, job, cache)
    return layers


def _tell_of_random_data(job: QuantizationJob[RunConfig]) -> None:
    """Warn that this is a dry run, and say which numbers the samples are made of."""
    given = filter(None, (job.calibration, job.evaluation, job.holdout))
    form = next((data.form for data in given if isinstance(data.form, RandomForm)), None)
    if form is not None:
        samples = "; ".join(map(str, form.inputs))
        watcher().warned(
            f"a dry run: {' and '.join(job.random_data)} are {form.count} random samples ({samples}), which say "
            "nothing about accuracy"
        )


def calibrate(job: QuantizationJob[RunConfig], layers: pa.Table, on: Runner) -> pa.Table:
    """Run the float model on the calibration data; a histogram of each tensor (schema CALIBRATION)."""
    found = histograms(job, layers, on)
    if bad := facts(found).get("nan_outputs"):
        watcher().warned(f"on the calibration data the float model computes a NaN in {', '.join(bad)}: not compared")
    return found
