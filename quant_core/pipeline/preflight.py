"""Looks at everything a run is given before any work: what cannot be used is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

from quant_core.config import RunConfig
from quant_core.errors import InputError
from quant_core.execution.machine import memory_budget
from quant_core.model.graph import FloatGraph
from quant_core.model.inputs import check_inputs, check_labels
from quant_core.model.model_file import read_model
from quant_core.pipeline.study import Request
from quant_core.scoring.evaluation import compared_outputs
from quant_core.scoring.metrics import load_function
from quant_core.storage.data import open_dataset
from quant_core.storage.references import fetch

__all__ = ["check_data", "check_request", "usable_folder"]


def check_request(request: Request[RunConfig], cache: Path) -> None:
    """Raise InputError for a model, data, metric, folder or memory budget that cannot be used.

    Data are unpacked into the cache on the way. The output folder is made last, when all else is well.
    """
    memory_budget()
    if request.config.target.function:
        load_function(request.config.target.function)
    path = fetch(request.model, usable_folder(cache, "workspace"))
    graph = FloatGraph(read_model(path, request.model.url), path.parent)
    check_data(graph, request, cache)
    request.output.check()
    usable_folder(request.output.folder, "output folder")


def check_data(graph: FloatGraph, request: Request[RunConfig], cache: Path) -> None:
    """Raise InputError unless all data fit the graph, as far as it declares what it wants."""
    names = compared_outputs(graph, request.config.output)
    check_inputs(graph, open_dataset(request.calibration, cache))
    for reference in filter(None, [request.evaluation, request.holdout]):
        dataset = open_dataset(reference, cache)
        check_inputs(graph, dataset)
        if request.config.target.metric == "top1_drop":
            check_labels(graph, dataset, names[0])


def usable_folder(path: Path, role: str) -> Path:
    """The folder, made when it is not there; raises InputError when it cannot be, or cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        taken = next(place for place in [path, *path.parents] if place.exists())
        raise InputError(f"{role} {path}: {taken} is a file, not a folder") from error
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"{role} {path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"{role} {path}: may not be written to")
    return path
