"""The main job as a Prefect flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.request import request_for
from quant_core.auto import run
from quant_core.config import MixedPrecisionConfig
from quant_core.machine import available_cores
from quant_core.output import Outcome
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
    create_markdown_artifact(_verdict(outcome), key="narrowcast-verdict", description="What came of the run")
    return dict(outcome.manifest)


def _verdict(outcome: Outcome) -> str:
    manifest = outcome.manifest
    narrowed, scores = manifest["narrowed"], manifest["scores"]
    cells = {name: [_cell(scores[part], name) for part in _PARTS] for name in scores["mixed"]}
    verdict = f"**Target {'met' if outcome.met else 'missed'}**"
    share = f"{narrowed['macs_share']:.1%} of the multiply-accumulates"
    return "\n".join(
        [
            f"{verdict}: {narrowed['layers']} of {narrowed['of']} layers narrowed, {share}, "
            f"bit operations x {narrowed['bops_ratio']:.2f}.",
            "",
            "| metric | " + " | ".join(_PARTS.values()) + " |",
            "| --- | " + "--- | " * len(_PARTS),
            *(f"| {name} | " + " | ".join(row) + " |" for name, row in cells.items()),
            "",
            f"Model: `{outcome.model}`",
        ]
    )


_PARTS = {"float": "float", "wide": "wide", "mixed": "mixed", "holdout": "mixed on held-out data"}


def _cell(scores: dict[str, float], name: str) -> str:
    return f"{scores[name]:.5g}" if name in scores else ""
