"""About how long the stages of a run take, before any of it is done.

Every stage is so many passes of a model over so many samples. What one pass takes is measured on a few of the
evaluation samples; a model with its numbers quantized in simulation takes about three times as long as the float
one, and a probe runs on average half of it again (on a chain of layers it is half).
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from quant_core.config import MixedPrecisionConfig, RunConfig
from quant_core.execution.machine import Machine
from quant_core.model.data.batches import batches
from quant_core.model.data.carried_states import outputs_by_step
from quant_core.model.data.fitted_data import model_data
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import layers_from_table
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import open_nodes
from quant_core.pipeline.candidates.rungs import rungs_above
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.plan_search import FRONTIER_PLANS
from quant_core.precision import Precision
from quant_core.probing.racing import probe_macs, sample_rounds
from quant_core.scoring.by_margin import COUNTED, ByMargin
from quant_core.scoring.sequential import EvenVisits, evaluation_rounds

__all__ = ["Forecast", "forecast"]

_SAMPLES, _SIMULATED, _SUFFIX = 8, 3.0, 0.5


@dataclass(frozen=True)
class Forecast:
    """What a stage is expected to take."""

    stage: str
    """Its name."""
    work: str
    """What it does."""
    seconds: float | None
    """Wall time; about, and at most, where the stage may stop early. None where nothing foretells it."""


def forecast(job: QuantizationJob[RunConfig], cache: Path, workers: int) -> list[Forecast]:
    """Foretell every step of a run that begins with nothing; raises InputError for unusable input."""
    config, pace = job.config, _pace(job, cache, workers)
    calibration, evaluation, held_out = pace.samples
    return [
        Forecast("prepare", f"{pace.layers} layers", pace.prepare),
        Forecast("calibrate", f"{calibration:,} samples", calibration * pace.plain),
        *(Forecast(stage, work, None) for stage, work in _not_foretold(config, pace.ladder)),
        Forecast("baseline", f"{evaluation:,} samples, float and wide", evaluation * (pace.plain + pace.simulated)),
        *(_searched(config, pace, evaluation) if isinstance(config, MixedPrecisionConfig) else ()),
        Forecast("export", "the quantized model", pace.prepare),
        Forecast(
            "verify",
            f"{evaluation + held_out:,} samples",
            (evaluation + held_out) * pace.simulated + held_out * pace.plain,
        ),
        *(Forecast("timing", "whole models, in ONNX Runtime", None) for _ in range(config.times_models)),
    ]


def _searched(config: MixedPrecisionConfig, pace: _Pace, evaluation: int) -> Iterator[Forecast]:
    """The stages that find a plan; what they take where wide meets the target, and the work where it does not."""
    rungs = len(config.narrow)
    probes, plans = pace.layers * rungs, _most_plans(config, pace.layers * rungs)
    probed = sample_rounds(evaluation, config.samples, probe_macs(pace.macs, probes))
    above = 0 if config.budgets or config.most_layers is not None else len(rungs_above(config))
    lifted = pace.layers * (rungs + above)
    most, counts = "at most " if config.blocks else "", " to ".join(map(str, dict.fromkeys((probed[0], probed[-1]))))
    yield Forecast(
        "probe",
        f"{most}{probes:,} probes on {counts} samples" + (f", {lifted:,} if wide misses" if above else ""),
        probes * probed[-1] * pace.simulated * _SUFFIX,
    )
    # Where classes are counted, the samples that may change theirs most often settle a plan in the first round.
    counted = all(target.metric in COUNTED for target in config.targets)
    first_share = ByMargin.first_share if counted else EvenVisits.first_share
    scored = evaluation_rounds(evaluation, config.plan_samples, pace.macs, first_share)
    counts = " to ".join(f"{count:,}" for count in dict.fromkeys((scored[0], scored[-1])))
    yield Forecast(
        "search",
        f"at most {plans} {'plan' if plans == 1 else 'plans'} on {counts} samples"
        + (f", {above + _most_plans(config, lifted)} if wide misses" if above else ""),
        plans * scored[0 if counted else -1] * pace.simulated,
    )


def _not_foretold(config: RunConfig, ladder: Sequence[Precision]) -> Iterator[tuple[str, str]]:
    if any(config.chooses_weights(precision.weights, precision.is_weight_only) for precision in ladder):
        yield "round", "weights, for what layers put out"
    if config.improve == "auto":
        yield "migrate", "spread of activations into weights"
        yield "reconstruct", "weights, for what layers put out, and the scores before and after"
    if config.counts_latency and config.device_costs is None:
        yield "latency", "layers, timed in ONNX Runtime"


def _most_plans(config: MixedPrecisionConfig, moves: int) -> int:
    """Plans that are scored after the wide one, at most; a move takes a layer down a rung."""
    return _most_searched(config, moves) + (max(FRONTIER_PLANS, config.evaluations) + 1 if config.frontier else 0)


def _most_searched(config: MixedPrecisionConfig, moves: int) -> int:
    if config.budgets:  # where the cut is, the costs say
        return {"linear": 1, "bisect": 1, "knapsack": config.evaluations}.get(config.search, 1 + config.evaluations)
    if config.search == "linear":
        return moves
    cut = math.ceil(math.log2(moves + 1)) + 1
    return cut if config.search == "bisect" else cut + config.evaluations


@dataclass(frozen=True)
class _Pace:
    """What was measured."""

    layers: int
    macs: int
    """Multiply-accumulates of all layers for a sample."""
    ladder: tuple[Precision, ...]
    """Precisions that layers may have, the wide one first."""
    samples: tuple[int, int, int]
    """Of the calibration, evaluation and held-out data."""
    prepare: float
    """Seconds to prepare the model."""
    plain: float
    """Seconds a sample of the float model, all workers at work."""

    @property
    def simulated(self) -> float:
        """Seconds a sample of a quantized model."""
        return _SIMULATED * self.plain


def _pace(job: QuantizationJob[RunConfig], cache: Path, workers: int) -> _Pace:
    """Prepare the model in a folder that is thrown away, and run it on a few samples."""
    with tempfile.TemporaryDirectory() as scratch:
        machine, config = Machine(Path(scratch), 1), job.config
        began = time.perf_counter()
        table = prepare(machine=machine, **job.preparation)
        prepared = time.perf_counter() - began
        graph = prepared_graph(table, machine.cache)
        session = open_nodes(graph, graph.nodes, [value.name for value in graph.model.graph.output], {})
        data = model_data(graph, job.evaluation, cache)
        few = list(batches(graph, data, config.batch_size, np.arange(min(_SAMPLES, data.count))))
        began = time.perf_counter()
        for batch in few:
            deque(outputs_by_step(session, batch), maxlen=0)
        ran = sum(batch.size for batch in few)
        plain = (time.perf_counter() - began) / ran / workers
        first = model_data(graph, job.calibration, cache).count
        last = model_data(graph, job.holdout, cache).count if job.holdout else 0
        macs = sum(table.column("macs").to_pylist())
        return _Pace(table.num_rows, macs, _ladder(job, graph, table), (first, data.count, last), prepared, plain)


def _ladder(job: QuantizationJob[RunConfig], graph: FloatGraph, layers: pa.Table) -> tuple[Precision, ...]:
    if job.assignment is None:
        return job.config.ladder
    plan = job.assignment.plan(graph, layers_from_table(layers), job.config.wide)
    return (job.config.wide, *(precision for _, precision in plan.layers))
