"""Calls the stages that look at the calibration data: histograms, and weights rounded with the data in view."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.execution.runner import Runner
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import CALIBRATE, ROUND
from quant_core.precision import Precision
from quant_core.quantization.weights import WeightKind
from quant_core.scoring.compared import compared_outputs

__all__ = ["histograms", "rounded_weights"]


def histograms(job: QuantizationJob[RunConfig], layers: pa.Table, on: Runner) -> pa.Table:
    """Run the float model on the calibration data; a histogram of each tensor (schema CALIBRATION)."""
    graph = prepared_graph(layers, on.machine.cache)
    return on.run(
        CALIBRATE,
        layers=layers,
        data=job.calibration,
        batch_size=job.config.batch_size,
        providers=job.config.providers,
        compared=compared_outputs(graph, job.config.output),
    )


def rounded_weights(
    job: QuantizationJob[RunConfig], layers: pa.Table, precisions: Iterable[Precision], on: Runner
) -> tuple[pa.Table, ...]:
    """Round weights with the calibration data in view, one table a kind (schema WEIGHTS)."""
    config = job.config
    return tuple(
        on.run(
            ROUND,
            layers=layers,
            data=job.calibration,
            weights=kind.dtype.code,
            alone=kind.alone,
            block=kind.block,
            config=config.quantization(),
            batch_size=config.batch_size,
        )
        for kind in dict.fromkeys(map(WeightKind.of, precisions))
        if config.chooses_weights(kind.dtype, kind.alone)
    )
