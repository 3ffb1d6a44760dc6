"""What a flow run is called and tagged with in Prefect's UI."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from quant_core.config import MixedPrecisionConfig
from quant_core.urls import redacted

__all__ = ["auto_run_name", "layer_wise_run_name", "tag", "watch_run_name", "watched_run_name"]


def auto_run_name() -> str:
    """`resnet20.onnx to a8w8 · l2 <= 0.5`, from the parameters of the flow run that is about to start."""
    config = MixedPrecisionConfig.model_validate(_parameters()["config"])
    return f"{_model()} to {','.join(map(str, config.narrow))} · {config.target}"


def layer_wise_run_name() -> str:
    """`resnet20.onnx layer-wise`, from the parameters of the flow run that is about to start."""
    return f"{_model()} layer-wise"


def watch_run_name() -> str:
    """`look at s3://bucket/models`, from the parameters of the flow run that is about to start."""
    return f"look at {redacted(_parameters()['folder'])}"


def watched_run_name() -> str:
    """Return the name as `auto_run_name` does, by the model's name in its folder."""
    config = MixedPrecisionConfig.model_validate(_parameters()["config"])
    return f"{_parameters()['name']} to {','.join(map(str, config.narrow))} · {config.target}"


def _parameters() -> dict[str, Any]:
    return dict(flow_run.parameters)


def _model() -> str:
    return PurePosixPath(redacted(_parameters()["model"])).name


def tag(tags: Iterable[object]) -> None:
    """Tag the flow run that is running.

    Its tasks stay without tags: for each run of a tagged task Prefect asks the server for a slot.
    """
    if flow_run.id is None:  # called as a plain function
        return
    all_tags = dict.fromkeys([*flow_run.tags, "narrowcast", *map(str, tags)])
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=list(all_tags))
