"""The main job as a flow that publishes nothing before a person has chosen a plan of the frontier."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.ui.approval_form import Answer, ask
from flows.ui.flow_runs import auto_run_name, tag
from flows.ui.run_display import show_result, show_run
from flows.ui.run_events import facts_of, failure_events, tell
from flows.ui.run_log import logged_run, run_logger
from quant_core.config import MixedPrecisionConfig
from quant_core.errors import InputError
from quant_core.execution.machine import available_cores
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.picking.pick import pick
from quant_core.results.outcome import Outcome, open_outcome
from quant_core.results.output_place import MANIFEST, OutputPlace
from quant_core.storage.store import Store
from tasks.cache.workspace import Workspace
from tasks.executors.choice import ExecutorKind
from tasks.executors.flow_executor import BY_PARAMETERS
from tasks.flow_runner import runner_of_flow

__all__ = ["auto_with_approval"]


@flow(
    name="auto-with-approval",
    flow_run_name=auto_run_name,
    persist_result=False,
    task_runner=BY_PARAMETERS,
)
def auto_with_approval(
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
    answer_hours: float = 72.0,
) -> dict[str, Any] | State[None]:
    """Quantize a float ONNX model, and publish the plan of its frontier that a person has chosen.

    The candidate, with its report, is written to the workspace; then the run waits for an answer to its form. Returns
    the manifest of what is published, or a state named Declined. Raises as `auto_mixed_precision`.

    Args:
        model: path or URL of the float ONNX model (s3://, gs://, https:// ...).
        calibration: path or URL of data that ranges are chosen from: .npz, .arrow, .parquet, or a folder of them.
        evaluation: path or URL of data that layers are ranked and plans accepted on; with `labels` for top-1.
        config: precisions, target and search; the frontier is always measured.
        output: folder or URL that receives the chosen model; nothing is written there before.
        holdout: path or URL of data that only the candidate is measured on; the search never sees it.
        workers: threads or processes that compute at once; all cores by default.
        workspace: folder or URL where step results and candidates are kept.
        runner: what probes and scores side by side: threads or processes here, a Dask or Ray cluster, or a work pool.
        runner_address: where the cluster is, by default here for the time of the run; of a pool, the deployment
            that probes, by default probe-shard/probe-shard.
        answer_hours: how long the run waits for an answer; then it fails, and nothing is published.

    """
    tag([*config.narrow, config.target.metric, "approval"])
    if not answer_hours > 0:
        raise InputError(f"answer_hours: {answer_hours:g} is not a time to answer in; give a positive number")
    place = Workspace.at(workspace)
    candidate = Store(place.url) / "candidates" / str(flow_run.id)
    with failure_events(model, output), logged_run(config.target):
        if candidate.read(MANIFEST) is None:
            with runner_of_flow(place.url, workers, runner, runner_address) as on, show_run():
                asked = config.model_copy(update={"frontier": True})
                job = QuantizationJob.of(
                    model, calibration, evaluation, holdout, asked, candidate.url, on.machine.cache
                )
                show_result(run_auto(job, on))
            tell("waiting", model, output, reason="a person is to choose a plan", candidate=str(candidate))
        run = open_outcome(candidate.url)
        run_logger().info(f"the candidate is in {candidate}; nothing is published before this run's form is answered")
        answer = ask(run, round(answer_hours * 3600))
        if answer.plan is None:
            return _declined(answer, model, output)
        run_logger().info(f"to be published: plan {answer.plan[:8]}. Reason: {answer.reason or 'none was given'}")
        published = _published(run, answer.plan, output, place)
    tell("met", model, output, **facts_of(published.manifest))
    return show_result(published)


def _declined(answer: Answer, model: str, output: str) -> State[None]:
    reason = answer.reason or "no reason was given"
    run_logger().info(f"declined, nothing is published: {reason}")
    tell("declined", model, output, reason=reason)
    return Completed(name="Declined", message=reason)


def _published(run: Outcome, plan: str, output: str, place: Workspace) -> Outcome:
    """Write the model of a plan to the output folder."""
    OutputPlace.at(output).check()
    return pick(run, None, None, output, place.machine(available_cores()), plan=plan)
