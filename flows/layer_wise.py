"""Layer-wise mixed precision, by a plan of the user's, as a Prefect flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from flows.ui.flow_runs import layer_wise_run_name, tag
from flows.ui.run_display import show_result
from flows.ui.run_log import logged_run
from quant_core.config import LayerWiseConfig, validated
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.layer_wise import written_plan
from quant_core.pipeline.steps import assign, baseline, calibrate, chosen, export, prepare, report, verify
from tasks.executors.flow_executor import BY_PARAMETERS
from tasks.flow_runner import runner_of_flow

__all__ = ["layer_wise"]


@flow(
    name="layer-wise",
    flow_run_name=layer_wise_run_name,
    persist_result=False,
    result_storage=PREFECT_LOCAL_STORAGE_PATH.value(),  # unused; else Prefect asks the server where it is, twice
    task_runner=BY_PARAMETERS,
)
def layer_wise(
    model: str,
    tensors: str | dict[str, list[str]],
    calibration: str,
    output: str,
    evaluation: str | None = None,
    holdout: str | None = None,
    config: LayerWiseConfig | None = None,
    workers: int | None = None,
    workspace: str | None = None,
) -> dict[str, Any]:
    """Quantize a float ONNX model by a plan that says which layers and tensors get which type.

    Returns the manifest. Raises InputError for unusable input, and for a name that is no layer and no tensor.

    Args:
        model: path or URL of the float ONNX model.
        tensors: names and patterns by type or precision, or a file of them, or the manifest of an earlier run.
        calibration: data that ranges are chosen from.
        output: folder or URL that receives the model, its manifest, tables and report.
        evaluation: data that the finished model is measured on; the calibration data by default.
        holdout: more data that it is measured on.
        config: the wide precision and how numbers are chosen; by default as a manifest says.
        workers: threads that compute at once; all cores by default.
        workspace: folder where step results are kept, so that no step is ever computed twice.

    """
    tag(["layer-wise"])
    written = written_plan(tensors)
    settings = config or validated(LayerWiseConfig, written.settings)
    data = (calibration, evaluation or calibration, holdout)
    with logged_run(settings.target), runner_of_flow(workspace, workers) as on:
        job = QuantizationJob.of(model, *data, settings, output, on.machine.cache, written.assignment)
        layers = prepare(job, on)
        plan = assign(job, layers, on)
        histograms = calibrate(job, layers, on)
        study = baseline(job, layers, histograms, on, plan)
        return show_result(report(verify(export(chosen(study, plan), on), on), on))
