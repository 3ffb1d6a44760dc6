"""Calls the stages that look at the calibration data: histograms, and weights rounded with the data in view."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import types_kept
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import CPU
from quant_core.model.signature import Signature
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import CALIBRATE, ROUND
from quant_core.precision import Precision
from quant_core.quantization.weights import WeightKind
from quant_core.scoring.compared import compared_outputs
from quant_core.storage.references import Reference
from quant_core.storage.tables import facts

__all__ = ["histograms", "note_few_columns", "rounded_weights", "scored_as_calibrated"]


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
        keeps_outputs=scored_as_calibrated(job, graph, job.evaluation),
    )


def scored_as_calibrated(job: QuantizationJob[RunConfig], graph: FloatGraph, data: Reference) -> bool:
    """Return whether the calibration pass gives, on its way, the float outputs that scores on data are held against."""
    same = data == job.calibration and job.config.providers == CPU
    return same and not (Signature.of(graph).states or types_kept(graph) or graph.inside)


def note_few_columns(weights: Iterable[pa.Table]) -> None:
    """Tell whoever watches of layers that read fewer rows in calibration than they have inputs."""
    few = {
        layer: columns
        for table in weights
        for layer, columns in facts(table).get("columns", {}).items()
        if columns[0] < columns[1]
    }
    if few:
        layer, (seen, width) = max(few.items(), key=lambda item: item[1][1] / max(item[1][0], 1))
        among = f", the worst of {len(few)} such layers" if len(few) > 1 else ""
        watcher().noted(
            f"weights are rounded by what layers read, and calibration has only {seen:,} rows for the {width:,} inputs "
            f"of {layer!r}{among}: more samples make them better"
        )


def rounded_weights(
    job: QuantizationJob[RunConfig],
    layers: pa.Table,
    precisions: Iterable[Precision],
    on: Runner,
    left_out: tuple[int, ...] = (),
) -> tuple[pa.Table, ...]:
    """Round weights with the calibration data in view, one table a kind (schema WEIGHTS).

    `left_out` are the numbers of samples that are not looked at.
    """
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
            left_out=left_out,
        )
        for kind in dict.fromkeys(map(WeightKind.of, precisions))
        if config.chooses_weights(kind.dtype, kind.alone)
    )
