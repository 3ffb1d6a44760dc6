"""Analysis: what narrowing each layer alone costs, why, and which tensors have outliers. No target, no search."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import yaml

from quant_core.calibration.outliers import TensorSpread, tensor_spreads, weight_spreads
from quant_core.config import AnalysisConfig
from quant_core.errors import InputError
from quant_core.execution.machine import Machine, available_cores
from quant_core.execution.runner import Runner, Stage
from quant_core.model.layers import layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.candidates.probe_rounds import probe_rounds
from quant_core.pipeline.finished_run.plan_summary import calibration_with_types
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.steps import baseline, calibrate, prepare, rank
from quant_core.precision import Precision
from quant_core.probing.attribution import LayerError, LayerLoss, layer_errors, layer_losses
from quant_core.probing.depth import errors_along_depth
from quant_core.report.analysis import analysis_page
from quant_core.scoring.metrics import scores_of
from quant_core.scoring.sampling import Samples
from quant_core.storage.data import DataSource
from quant_core.storage.finite_json import finite_or_null
from quant_core.storage.references import atomic_write, made_folder
from quant_core.storage.schemas import DEPTH
from quant_core.storage.tables import to_ipc
from quant_core.urls import redacted

__all__ = ["Analysis", "analyse", "run_analysis"]

_ALONG_DEPTH = Stage("depth", errors_along_depth, DEPTH)


@dataclass(frozen=True)
class Analysis:
    """What an analysis found."""

    model: str
    """Where the model was."""
    sha256: str
    """Of its file."""
    wide: str
    """The precision of the layers that were not probed."""
    rank: str
    """The name of the loss."""
    wide_scores: Mapping[str, float]
    """Scores of the model with all layers wide, against the float model, by metric."""
    losses: tuple[LayerLoss, ...]
    """Of every layer at every precision, ascending."""
    tensors: tuple[TensorSpread, ...]
    """How far the values of each tensor spread, the widest first."""
    weights: tuple[TensorSpread, ...]
    """How far those of each layer's weight spread, the widest first."""
    depth: tuple[LayerError, ...]
    """The error of what each layer puts out, with all layers at each precision, in graph order."""

    @property
    def outliers(self) -> tuple[TensorSpread, ...]:
        """The tensors with outliers."""
        return tuple(spread for spread in self.tensors if spread.has_outliers)


def analyse(
    model: str | os.PathLike[str],
    *,
    calibration: DataSource,
    evaluation: DataSource,
    config: AnalysisConfig | None = None,
    output: str | os.PathLike[str],
    workers: int | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Analysis:
    """Analyse a model in this process, without Prefect.

    Args:
        model: path or URL of the float ONNX model.
        calibration: data that ranges are chosen from, as in `auto_mixed_precision`.
        evaluation: data that losses are measured on, likewise.
        config: which losses are measured, and how numbers are chosen.
        output: folder on this machine that receives tables, `analysis.json`, `ranking.yaml` and `analysis.html`.
        workers: threads that compute at once; all cores by default.
        cache: folder for intermediate files; a temporary one by default.

    Raises InputError for unusable input.

    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(cache or temporary)
        job = QuantizationJob.of(model, calibration, evaluation, None, config or AnalysisConfig(), output, folder)
        return run_analysis(job, Runner(Machine(folder, workers or available_cores())))


def run_analysis(job: QuantizationJob[AnalysisConfig], on: Runner) -> Analysis:
    """Run the steps of an analysis and write what they find; raises as `analyse`."""
    if job.output.url is not None:
        raise InputError(f"out: an analysis is written to a folder on this machine, not to {job.output}")
    layers = prepare(job, on)
    study = baseline(job, layers, calibrate(job, layers, on), on)
    ranking = rank(study, probe_rounds(study, on) if study.candidates else [], on)
    depth = pa.concat_tables([DEPTH.empty_table(), *(_depth(study, precision, on) for precision in job.config.narrow)])
    analysis = analysed(study, ranking, depth, on.machine.cache)
    write_analysis(analysis, study, ranking, on.machine.cache)
    return analysis


def _depth(study: Study[AnalysisConfig], precision: Precision, on: Runner) -> pa.Table:
    """Measure the error along the depth of the model with all layers at a precision (schema DEPTH)."""
    config = study.job.config
    count = study.baseline.num_rows if config.samples == "all" else min(config.samples, study.baseline.num_rows)
    return on.run(
        _ALONG_DEPTH,
        recipe=study.recipe,
        samples=Samples(study.job.evaluation, 0, count),
        precision=str(precision),
        batch_size=config.batch_size,
    )


def analysed(study: Study[AnalysisConfig], ranking: pa.Table, depth: pa.Table, cache: Path) -> Analysis:
    """Return what the probes, the errors along the depth (schema DEPTH) and the histograms say."""
    job, config = study.job, study.job.config
    graph = prepared_graph(study.layers, cache)
    return Analysis(
        model=redacted(job.model.url),
        sha256=job.model.sha256,
        wide=str(config.wide),
        rank=config.rank,
        wide_scores=scores_of(study.wide.scores),
        losses=tuple(layer_losses(ranking, config.wide, config.narrow)),
        tensors=tuple(tensor_spreads(study.calibration)),
        weights=tuple(weight_spreads(graph, layers_from_table(study.layers))),
        depth=tuple(layer_errors(depth)),
    )


def write_analysis(analysis: Analysis, study: Study[AnalysisConfig], ranking: pa.Table, cache: Path) -> None:
    """Write the tables, then `ranking.yaml`, the page and, last, `analysis.json`."""
    folder = made_folder(study.job.output.folder)
    typed = calibration_with_types(study.calibration, study.layers, study.wide.plan, study.job.config, cache)
    for name, table in {"layers": study.layers, "calibration": typed, "sensitivity": ranking}.items():
        atomic_write(folder / f"{name}.arrow", to_ipc(table))
    atomic_write(folder / "ranking.yaml", ranking_file(analysis).encode())
    page = analysis_page(
        Path(analysis.model).name,
        analysis.wide,
        analysis.rank,
        analysis.losses,
        analysis.depth,
        analysis.tensors,
        analysis.weights,
        study.layers,
        typed,
    )
    atomic_write(folder / "analysis.html", page.encode())
    atomic_write(folder / "analysis.json", analysis_json(analysis).encode())


def analysis_json(analysis: Analysis) -> str:
    """Return the analysis as JSON; a number that is not finite is null."""
    found = asdict(analysis)
    found["outliers"] = [spread.tensor for spread in analysis.outliers]
    return json.dumps(finite_or_null(found), indent=2, allow_nan=False) + "\n"


_HEADER = """\
# For `narrowcast auto MODEL --ranking FILE --search bisect` (or linear). Edit it: layers are narrowed in this order,
# those that are not named after them, as probed.
"""


def ranking_file(analysis: Analysis) -> str:
    """Return the ranking as a file for `narrowcast auto --ranking`: layers by their largest loss, the least first."""
    last = {loss.layer: loss for loss in analysis.losses}
    order = sorted(last.values(), key=analysis.losses.index)
    lines = [f"  - {json.dumps(loss.layer)}  # {loss.loss:.3g} at {loss.precision}" for loss in order]
    options = yaml.safe_dump({"keep_wide": [], "exclude": []}, sort_keys=False)
    return _HEADER + options + ("order:\n" + "\n".join(lines) if lines else "order: []") + "\n"
