"""A flow that scans a folder of float models once, and quantizes those that are new or changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from flows.ui.flow_runs import tag, watch_run_name, watched_run_name
from flows.ui.run_display import show_result, show_run
from flows.ui.run_log import logged_run
from flows.watch.digest_cache import DigestCache
from flows.watch.scan import ScanResult, WatchError, scan
from flows.watch.scan_artifact import publish_scan
from flows.watch.watched_folder import Job, WatchedFolder
from quant_core.config import MixedPrecisionConfig
from quant_core.errors import InputError
from quant_core.execution.progress import Relay, Watcher, watched_by, watcher
from quant_core.manifest import Manifest
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.job import QuantizationJob
from quant_core.results.output_place import OutputPlace
from quant_core.storage.folders import usable_folder
from quant_core.storage.references import Reference
from quant_core.storage.scratch import scratch_folder
from quant_core.storage.store import Store
from quant_core.urls import redacted
from tasks.cache.workspace import Workspace
from tasks.executors.choice import ExecutorKind
from tasks.executors.flow_executor import BY_PARAMETERS, refuse_task_runner
from tasks.flow_runner import runner_of_flow

__all__ = ["check_places", "watch_models"]


@flow(
    name="watch-models",
    flow_run_name=watch_run_name,
    persist_result=False,
    result_storage=PREFECT_LOCAL_STORAGE_PATH.value(),  # unused; else Prefect asks the server where it is
    task_runner=BY_PARAMETERS,
)
def watch_models(
    folder: str,
    output: str,
    model: str | None = None,
    metrics: Sequence[str] = (),
    workers: int | None = None,
    workspace: str | None = None,
    runner: ExecutorKind | None = None,
    runner_address: str | None = None,
    settle_seconds: float = 2.0,
) -> list[ScanResult]:
    """Scan a folder once, and quantize what is new or changed in it.

    Every .onnx file in the folder, and in folders in it, is a model. The options of resnet20.onnx are in resnet20.yaml
    beside it, or else in the folder's narrowcast.yaml: a file of options as for `narrowcast auto --config`, without
    model and out; its paths are relative to the folder it is in. What was done with the same model, options and data,
    by any machine, is not done again.

    Raises WatchError at the end when a model failed or missed its target; the others are done all the same.

    Args:
        folder: folder or URL (s3://, gs:// ...) with the float models and their options.
        output: folder or URL where each model gets a folder of its name, with a folder for each of its versions and
            current.json, which names the newest one that meets its target.
        model: the only model to scan, by its name in the folder or its URL; by default all.
        metrics: functions (pkg.mod:fn) that options in the folder may name as their metric; others are refused.
        workers: threads or processes that compute at once; all cores by default.
        workspace: folder or URL where step results are kept, so that no step is ever computed twice.
        runner: what probes and scores side by side: threads or processes here, a Dask or Ray cluster, or a work pool.
        runner_address: where the cluster is, by default here for the time of the run; of a pool, the deployment
            that probes, by default probe-shard/probe-shard.
        settle_seconds: how long a new model is watched for changes before it is taken for complete.

    """
    tag(["watch"])
    refuse_task_runner()
    check_places(folder, output)
    place = Workspace.at(workspace)
    place.check()
    place.clear_leftovers()
    digests = DigestCache(place.cache / "looks" / f"{hashlib.sha256(Store(folder).url.encode()).hexdigest()[:32]}.json")
    watched = WatchedFolder.at(folder, metrics, digests)
    names = watched.models if model is None else [watched.named(model)]

    def run(name: str, job: Job, to: str) -> Manifest:
        data = (job.calibration, job.evaluation, job.holdout)
        made = watched_model(name, job.model, *data, job.config, to, place.url, workers, runner, runner_address)
        return Manifest.model_validate(made)

    with watched_by(_Logged(watcher())):
        if not names:
            watcher().noted(f"{watched.place}: holds no model")
        results = list(scan(watched, names, Store(output), run, settle_seconds))
    digests.save()
    publish_scan(watched.place, results)
    if any(result.code for result in results):
        raise WatchError(results)
    return results


def check_places(folder: str, output: str) -> None:
    """Raise InputError for folders that cannot be used together."""
    for role, place in {"folder": folder, "output": output}.items():
        if not place:
            raise InputError(f"{role}: is not filled in; give a folder or a URL")
    if _whole_path(output).startswith(_whole_path(folder)):
        place = redacted(output)
        raise InputError(f"output {place}: is in the watched folder, where its models would be quantized again")
    WatchedFolder.at(folder)
    local = Store(output).folder
    if local is None:
        Store(output).check("output folder")
    else:
        usable_folder(local, "output folder")


def _whole_path(place: str) -> str:
    local = Store(place).folder
    return f"{str(local.resolve() if local else place).rstrip('/')}/"


class _Logged(Relay):
    """Writes notes to the flow run's log."""

    def __init__(self, listener: Watcher) -> None:
        super().__init__(listener)
        self._logger = get_run_logger()

    def noted(self, message: str) -> None:
        """Log it, and pass it on."""
        self._logger.info(message)
        super().noted(message)


@flow(
    name="watched-model",
    flow_run_name=watched_run_name,
    persist_result=False,
    result_storage=PREFECT_LOCAL_STORAGE_PATH.value(),  # unused; else Prefect asks the server where it is
    task_runner=BY_PARAMETERS,
)
def watched_model(
    name: str,
    model: Reference,
    calibration: Reference,
    evaluation: Reference,
    holdout: Reference | None,
    config: MixedPrecisionConfig,
    output: str,
    workspace: str,
    workers: int | None,
    runner: ExecutorKind | None,
    runner_address: str | None,
) -> dict[str, Any]:
    """Quantize one model of a watched folder and return the manifest. The output folder is there whole or not at all.

    Args:
        name: the model's name in its folder.
        model: the model.
        calibration: data that ranges are chosen from.
        evaluation: data that layers are ranked and plans accepted on.
        holdout: data that only the finished model is measured on.
        config: its options.
        output: folder or URL of the version.
        workspace: folder or URL where step results are kept.
        workers: threads or processes that compute at once.
        runner: what runs probes side by side.
        runner_address: where the cluster is, or the deployment that probes.

    """
    tag([*config.narrow, config.target.metric])
    with (
        logged_run(config.target),
        runner_of_flow(workspace, workers, runner, runner_address) as on,
        scratch_folder(usable_folder(on.machine.cache, "workspace")) as staging,
        show_run(),
    ):
        data = (calibration, evaluation, holdout)
        return show_result(run_auto(QuantizationJob(model, *data, config, OutputPlace(staging, output)), on))
