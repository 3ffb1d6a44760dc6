"""What a run is given besides its configuration: files, folders, and what computes. Rows of the table of options."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from quant_core.flags import Flag, Heading
from tasks.executors.choice import ExecutorKind

__all__ = ["AnalysisInputs", "AutoInputs", "Inputs", "LayerWiseInputs"]

DataField = Annotated[str, Flag(Heading.DATA, "DATA", is_path=True)]


class Inputs(BaseModel):
    """What every run is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Flag(Heading.DATA, "MODEL", is_path=True, is_argument=True)] = Field(
        description="The float model: an ONNX file or its URL."
    )
    calibration: DataField = Field(
        description="Data ranges are chosen from: arrays, pictures, a folder of them, or `random`."
    )
    evaluation: Annotated[str | None, Flag(Heading.DATA, "DATA", default="calibration", is_path=True)] = Field(
        default=None, description="Data the model is measured on."
    )
    holdout: Annotated[str | None, Flag(Heading.DATA, "DATA", is_path=True)] = Field(
        default=None, description="Data that only the finished model is measured on."
    )
    out: Annotated[str, Flag(Heading.DATA, "DIR", is_path=True)] = Field(
        description="Folder that receives model, manifest, tables and report."
    )
    workers: Annotated[int | None, Flag(Heading.RUNNING, "N", default="all cores")] = Field(
        default=None, ge=1, description="Threads or processes at once."
    )
    workspace: Annotated[str | None, Flag(Heading.RUNNING, "URL", default="the user's cache folder", is_path=True)] = (
        Field(default=None, description="Folder where step results are kept.")
    )


class AutoInputs(Inputs):
    """What a run of `narrowcast auto` is given."""

    evaluation: DataField = Field(description="Data that plans are accepted on.")
    runner: Annotated[ExecutorKind, Flag(Heading.RUNNING, "RUNNER")] = Field(
        default="thread", description="What shares the work."
    )
    runner_address: Annotated[str | None, Flag(Heading.RUNNING, "ADDRESS")] = Field(
        default=None, description="The Dask or Ray cluster, or a pool's deployment."
    )


class LayerWiseInputs(Inputs):
    """What a run of `narrowcast layer-wise` is given."""

    tensors: Annotated[str, Flag(Heading.DATA, "FILE", is_path=True)] = Field(
        description="Types with names (YAML), or a manifest.json."
    )


class AnalysisInputs(BaseModel):
    """What `narrowcast analyse` is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Flag(Heading.DATA, "MODEL", is_path=True, is_argument=True)] = Field(
        description="The float model: an ONNX file or its URL."
    )
    calibration: DataField = Field(description="Data ranges are chosen from.")
    evaluation: DataField = Field(description="Data losses are measured on.")
    out: Annotated[str, Flag(Heading.DATA, "DIR", is_path=True)] = Field(
        description="Folder that receives the page, the ranking and the tables."
    )
    workers: Annotated[int | None, Flag(Heading.RUNNING, "N", default="all cores")] = Field(
        default=None, ge=1, description="Threads at once."
    )
