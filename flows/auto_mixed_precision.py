"""The main job as a Prefect flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from flows.ui.flow_runs import auto_run_name, tag
from flows.ui.run_display import show_result, show_run
from flows.ui.run_events import facts_of, failure_events, tell
from flows.ui.run_log import logged_run
from quant_core.config import MixedPrecisionConfig
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.steps import baseline, calibrate, export, prepare, probe, rank, report, search, verify
from tasks.executors.choice import ExecutorKind
from tasks.executors.flow_executor import BY_PARAMETERS
from tasks.flow_runner import runner_of_flow

__all__ = ["auto_mixed_precision"]


@flow(
    name="auto-mixed-precision",
    flow_run_name=auto_run_name,
    persist_result=False,
    result_storage=PREFECT_LOCAL_STORAGE_PATH.value(),  # unused; else Prefect asks the server where it is, twice
    task_runner=BY_PARAMETERS,
)
def auto_mixed_precision(
    model: str,
    calibration: str,
    evaluation: str,
    config: MixedPrecisionConfig,
    output: str,
    holdout: str | None = None,
    workers: int | None = None,
    workspace: str | None = None,
    runner: ExecutorKind | None = None,
    runner_address: str | None = None,
) -> dict[str, Any]:
    """Quantize a float ONNX model to the narrowest mix of precisions that meets a target, or the best in a budget.

    Returns the manifest. Raises InputError for unusable input and TargetError when no plan meets the
    target, or none is within the budget; the best model found is then in the output folder nevertheless.

    Args:
        model: path or URL of the float ONNX model (s3://, gs://, https:// ...).
        calibration: path or URL of data that ranges are chosen from: .npz, .arrow, .parquet, or a folder of them.
        evaluation: path or URL of data that layers are ranked and plans accepted on; with `labels` for top-1.
        config: precisions, target and search; every field is explained where it is filled in.
        output: folder or URL that receives the model, its manifest, tables and report.
        holdout: path or URL of data that only the finished model is measured on; the search never sees it.
        workers: threads or processes that compute at once; all cores by default.
        workspace: folder or URL where step results are kept, so that no step is ever computed twice.
        runner: what probes and scores side by side: threads or processes here, a Dask or Ray cluster, or a work pool;
            by default the flow's own task runner, where one was given, or threads.
        runner_address: where the cluster is, by default here for the time of the run; of a pool, the deployment
            that probes, by default probe-shard/probe-shard.

    """
    tag([*config.narrow, config.target.metric])
    with (
        failure_events(model, output),
        logged_run(config.target),
        runner_of_flow(workspace, workers, runner, runner_address) as on,
        show_run(),
    ):
        job = QuantizationJob.of(model, calibration, evaluation, holdout, config, output, on.machine.cache)
        layers = prepare(job, on)
        histograms = calibrate(job, layers, on)
        study = baseline(job, layers, histograms, on)
        losses = probe(study, on)
        ranking = rank(study, losses, on)
        decision = search(study, ranking, on)
        outcome = report(verify(export(decision, on), on), on)
        manifest = show_result(outcome)
    tell("met", model, output, **facts_of(outcome.manifest))
    return manifest
