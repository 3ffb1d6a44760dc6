"""The main job as a Prefect flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from quant_core.auto import run
from quant_core.config import MixedPrecisionConfig
from quant_core.machine import Machine, available_cores, default_workspace
from quant_core.output import Outcome
from quant_core.references import refer
from quant_core.trials import Request
from tasks.prefect_stages import PrefectStages
from tasks.result_store import ResultStore, workspace_folder

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
) -> dict[str, Any]:
    """Quantize a float ONNX model to the narrowest mix of precisions that meets a target.

    Args:
        model: path or URL of the float ONNX model.
        calibration: data that ranges are chosen from.
        evaluation: data that layers are ranked and plans accepted on.
        config: precisions, target and search.
        output: folder that receives the model, its manifest, tables and report.
        holdout: data that only the finished model is measured on.
        workers: threads that compute at once; all cores by default.
        workspace: folder where step results are kept, so that no step is ever computed twice.

    Returns the manifest. Raises InputError for unusable input and TargetError when even the wide model misses
    the target; the wide model is then in the output folder nevertheless.
    """
    folder = workspace_folder(workspace, default_workspace())
    request = Request(
        model=refer(model),
        calibration=refer(calibration),
        evaluation=refer(evaluation),
        holdout=None if holdout is None else refer(holdout),
        config=config,
        output=Path(output),
    )
    stages = PrefectStages(Machine(folder / "files", workers or available_cores()), ResultStore(folder))
    outcome = run(request, stages)
    create_markdown_artifact(_verdict(outcome), key="narrowcast-verdict", description="What came of the run")
    return dict(outcome.manifest)


def _verdict(outcome: Outcome) -> str:
    manifest = outcome.manifest
    narrowed, scores = manifest["narrowed"], manifest["scores"]
    rows = [f"| {name} | " + " | ".join(_cell(scores[part], name) for part in _PARTS) + " |" for name in scores["mixed"]]
    return "\n".join(
        [
            f"**Target {'met' if outcome.met else 'missed'}**: {narrowed['layers']} of {narrowed['of']} layers narrowed, "
            f"{narrowed['macs_share']:.1%} of the multiply-accumulates, bit operations x {narrowed['bops_ratio']:.2f}.",
            "",
            "| metric | " + " | ".join(_PARTS) + " |",
            "| --- | " + "--- | " * len(_PARTS),
            *rows,
            "",
            f"Model: `{outcome.model}`",
        ]
    )


_PARTS = ("float", "wide", "mixed", "holdout")


def _cell(scores: dict[str, float], name: str) -> str:
    return f"{scores[name]:.5g}" if name in scores else ""
