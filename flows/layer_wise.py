"""Layer-wise mixed precision, by a plan of the user's, as a Prefect flow."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.request import request_for
from flows.ui.artifacts import publish
from flows.ui.flow_runs import named_after_the_model, tag
from quant_core.config import LayerWiseConfig, validated
from quant_core.execution.machine import available_cores
from quant_core.pipeline.layer_wise import run, written_plan
from tasks.cache.workspace import Workspace
from tasks.prefect_runner import PrefectStages

__all__ = ["layer_wise"]


@flow(name="layer-wise", flow_run_name=named_after_the_model, persist_result=False)
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
    request = request_for(model, calibration, evaluation or calibration, holdout, settings, output)
    place = Workspace.at(workspace)
    place.check()
    place.clear_leftovers()
    with PrefectStages(place, workers or available_cores()) as stages:
        outcome = run(request, written.assignment, stages)
    publish(outcome)
    return dict(outcome.manifest)
