"""The main job as a Prefect flow."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.request import request_for
from flows.verdict import publish_verdict
from quant_core.auto import run
from quant_core.config import MixedPrecisionConfig
from quant_core.machine import available_cores
from tasks.prefect_stages import PrefectStages
from tasks.runner import Runner, RunnerKind
from tasks.workspace import Workspace

__all__ = ["auto_mixed_precision"]


@flow(name="auto-mixed-precision", flow_run_name="quantize {model}", persist_result=False)
def auto_mixed_precision(
    model: str,
    calibration: str,
    evaluation: str,
    config: MixedPrecisionConfig,
    output: str,
    holdout: str | None = None,
    workers: int | None = None,
    workspace: str | None = None,
    runner: RunnerKind = "thread",
    runner_address: str | None = None,
) -> dict[str, Any]:
    """Quantize a float ONNX model to the narrowest mix of precisions that meets a target.

    Returns the manifest. Raises InputError for unusable input and TargetError when even the wide model misses
    the target; the wide model is then in the output folder nevertheless.

    Args:
        model: path or URL of the float ONNX model.
        calibration: data that ranges are chosen from.
        evaluation: data that layers are ranked and plans accepted on.
        config: precisions, target and search.
        output: folder that receives the model, its manifest, tables and report.
        holdout: data that only the finished model is measured on.
        workers: threads or processes that compute at once; all cores by default.
        workspace: folder or URL where step results are kept, so that no step is ever computed twice.
        runner: what runs probes side by side: threads or processes here, or a Dask or Ray cluster.
        runner_address: where the cluster is; by default one is started here for the run.

    """
    request = request_for(model, calibration, evaluation, holdout, config, output)
    place = Workspace.at(workspace)
    place.check()
    with PrefectStages(place, workers or available_cores(), Runner(runner, runner_address)) as stages:
        outcome = run(request, stages)
    publish_verdict(outcome)
    return dict(outcome.manifest)
