"""The main job as a Prefect flow."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.request import request_for
from flows.ui.artifacts import probing_shown, publish
from flows.ui.flow_runs import named_after_the_job, tag
from flows.ui.run_events import facts_of, failure_told, tell
from quant_core.config import MixedPrecisionConfig
from quant_core.errors import TargetError
from quant_core.execution.machine import available_cores
from quant_core.pipeline.auto import run
from quant_core.pipeline.study import Request
from quant_core.results.outcome import Outcome
from tasks.cache.workspace import Workspace
from tasks.executors.choice import Runner, RunnerKind
from tasks.prefect_runner import PrefectStages

__all__ = ["auto_mixed_precision", "quantized"]


@flow(name="auto-mixed-precision", flow_run_name=named_after_the_job, persist_result=False)
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
    """Quantize a float ONNX model to the narrowest mix of precisions that meets a target, or the best in a budget.

    Returns the manifest. Raises InputError for unusable input and TargetError when even the wide model misses
    the target, or no plan the budget; the best model found is then in the output folder nevertheless.

    Args:
        model: path or URL of the float ONNX model (s3://, gs://, https:// ...).
        calibration: path or URL of data that ranges are chosen from: .npz, .arrow, .parquet, or a folder of them.
        evaluation: path or URL of data that layers are ranked and plans accepted on; with `labels` for top-1.
        config: precisions, target and search; every field is explained where it is filled in.
        output: folder or URL that receives the model, its manifest, tables and report.
        holdout: path or URL of data that only the finished model is measured on; the search never sees it.
        workers: threads or processes that compute at once; all cores by default.
        workspace: folder or URL where step results are kept, so that no step is ever computed twice.
        runner: what probes and scores side by side: threads or processes here, a Dask or Ray cluster, or a work pool.
        runner_address: where the cluster is, by default here for the time of the run; of a pool, the deployment
            that probes, by default probe-shard/probe-shard.

    """
    tag([*config.narrow, config.target.metric])
    with failure_told(model, output):
        request = request_for(model, calibration, evaluation, holdout, config, output)
        place = Workspace.at(workspace)
        place.check()
        place.clear_leftovers()
        outcome = quantized(request, place, workers, Runner(runner, runner_address))
    tell("met", model, output, **facts_of(outcome.manifest))
    return dict(outcome.manifest)


def quantized(request: Request, place: Workspace, workers: int | None, runner: Runner) -> Outcome:
    """Run, and show what came of it in Prefect's UI, also where the target cannot be met."""
    try:
        with PrefectStages(place, workers or available_cores(), runner) as stages, probing_shown():
            outcome = run(request, stages)
    except TargetError as missed:
        if isinstance(missed.outcome, Outcome):
            publish(missed.outcome)
        raise
    publish(outcome)
    return outcome
