"""The job that the inputs and the configuration of a command ask for."""

from __future__ import annotations

from typing import Any

from quant_core.assignments.assignment_file import read_plan
from quant_core.config import Config
from quant_core.pipeline.job import QuantizationJob
from tasks.cache.workspace import Workspace

__all__ = ["asked_job"]


def asked_job(inputs: dict[str, Any], config: Config) -> tuple[QuantizationJob[Config], Workspace]:
    """Return the job, and the workspace that its steps are kept in; raises InputError for what cannot be used."""
    workspace = Workspace.at(inputs["workspace"])
    workspace.check()
    data = (inputs["calibration"], inputs["evaluation"] or inputs["calibration"], inputs["holdout"])
    assignment = read_plan(inputs["tensors"]).assignment if inputs.get("tensors") else None
    return QuantizationJob.of(inputs["model"], *data, config, inputs["out"], workspace.cache, assignment), workspace
