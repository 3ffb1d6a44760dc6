"""Layer-wise mixed precision: the user chooses the plan; it is written, measured and reported as any other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from quant_core.assignments.assignment import Assignment
from quant_core.assignments.assignment_file import WrittenPlan, read_plan
from quant_core.config import LayerWiseConfig, validated
from quant_core.errors import InputError
from quant_core.execution.machine import Machine, available_cores
from quant_core.execution.runner import Stages
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import layers_from_table
from quant_core.model.prepare import prepared_graph
from quant_core.pipeline.output import Findings, Outcome, write_output
from quant_core.pipeline.steps import begun, calibrated, held_out, prepared_layers, request_of, timed_models
from quant_core.pipeline.study import Request, Shipped, Trial, Trials, target_score
from quant_core.precision import PrecisionPlan
from quant_core.probing.ranking import rank
from quant_core.storage.data import DataSource
from quant_core.storage.tables import facts

__all__ = ["PlanSource", "layer_wise", "run", "written_plan"]

PlanSource = str | os.PathLike[str] | Mapping[str, Sequence[str]] | PrecisionPlan
"""A plan as Python callers may give it: a file (see `assignment_file`), names by type, or a plan."""


def layer_wise(
    model: str | os.PathLike[str],
    *,
    tensors: PlanSource,
    calibration: DataSource,
    evaluation: DataSource | None = None,
    holdout: DataSource | None = None,
    config: LayerWiseConfig | None = None,
    output: str | os.PathLike[str],
    workers: int | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Outcome:
    """Quantize a model by a plan of the user's, in this process, without Prefect.

    `tensors` says which layers and tensors get which type (see `assignment`): a file, names by type, or a plan;
    everything else is wide. The file that comes out is measured on `evaluation`, or else on the calibration data.
    `config` is by default what the plan's file says, if it is a manifest. The rest is as in
    `auto_mixed_precision`.

    Raises InputError for unusable input, and for a name that is no layer and no tensor of the model.
    """
    written = written_plan(tensors)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(cache or temporary)
        request = request_of(
            model,
            calibration,
            calibration if evaluation is None else evaluation,
            holdout,
            config or validated(LayerWiseConfig, written.settings),
            output,
            folder,
        )
        return run(request, written.assignment, Stages(Machine(folder, workers or available_cores())))


def written_plan(source: PlanSource) -> WrittenPlan:
    """The plan a caller means."""
    if isinstance(source, PrecisionPlan):
        return WrittenPlan(Assignment.of_plan(source))
    if isinstance(source, Mapping):
        return WrittenPlan(Assignment.of(source))
    return read_plan(source)


def run(request: Request[LayerWiseConfig], assignment: Assignment, stages: Stages) -> Outcome:
    """Call every stage of the pipeline through `stages` and write the output folder."""
    config = request.config
    layers = prepared_layers(request, stages)
    listed = layers_from_table(layers)
    graph = prepared_graph(facts(layers)["prepared"], stages.machine.cache)
    plan = assignment.plan(graph, listed, config.wide)
    calibration = calibrated(request, stages, layers)
    _check_ranges(plan, graph, calibration)
    trials = begun(request, stages, layers, calibration, [config.wide, *(precision for _, precision in plan.layers)])
    wide = trials.evaluate(PrecisionPlan.uniform([layer.name for layer in listed], config.wide), "baseline").plan
    confidence = request.config.target.confidence
    shipped = trials.ship(plan, None if confidence is None else 1 - confidence)
    if plan != wide:
        trials.noted(_trial(trials, shipped))
    return write_output(
        Findings(
            trials, rank(layers, [], config.wide), shipped, held_out(trials, shipped), timed_models(trials, shipped)
        )
    )


def _check_ranges(plan: PrecisionPlan, graph: FloatGraph, calibration: pa.Table) -> None:
    """Refuse to name a type for a tensor that no scale can be chosen for: it would stay float all the same."""
    observed = set(calibration.column("tensor").to_pylist())
    for name, kind in plan.tensors:
        if graph.is_float_activation(name) and name not in observed:
            raise InputError(f"tensor {name!r} cannot be {kind}: in calibration it was empty, or infinite")


def _trial(trials: Trials[LayerWiseConfig], shipped: Shipped) -> Trial:
    """The plan's own score is that of its file."""
    score = target_score(trials.request.config.target, shipped.scores, trials.baseline)
    return Trial(shipped.plan, shipped.scores, score, shipped.met, shipped.bound, None)
