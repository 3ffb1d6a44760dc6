"""What a flow run is called and tagged with in Prefect's UI."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from quant_core.config import MixedPrecisionConfig
from quant_core.urls import shown

__all__ = ["named_after_the_folder", "named_after_the_job", "named_after_the_model", "named_after_the_watched", "tag"]


def named_after_the_job() -> str:
    """`resnet20.onnx to a8w8 · l2 <= 0.5`, from the parameters of the flow run that is about to start."""
    config = MixedPrecisionConfig.model_validate(_parameters()["config"])
    return f"{_model()} to {','.join(map(str, config.narrow))} · {config.target}"


def named_after_the_model() -> str:
    """`resnet20.onnx layer-wise`, from the parameters of the flow run that is about to start."""
    return f"{_model()} layer-wise"


def named_after_the_folder() -> str:
    """`look at s3://bucket/models`, from the parameters of the flow run that is about to start."""
    return f"look at {shown(_parameters()['folder'])}"


def named_after_the_watched() -> str:
    """As `named_after_the_job`, by the model's name in its folder."""
    config = MixedPrecisionConfig.model_validate(_parameters()["config"])
    return f"{_parameters()['name']} to {','.join(map(str, config.narrow))} · {config.target}"


def _parameters() -> dict[str, Any]:
    return dict(flow_run.parameters)


def _model() -> str:
    return PurePosixPath(shown(_parameters()["model"])).name


def tag(tags: Iterable[object]) -> None:
    """Tag the flow run that is running.

    Its tasks stay without tags: for each run of a tagged task Prefect asks the server for a slot.
    """
    if flow_run.id is None:  # called as a plain function
        return
    all_tags = dict.fromkeys([*flow_run.tags, "narrowcast", *map(str, tags)])
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=list(all_tags))
