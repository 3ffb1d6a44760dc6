"""What the flow itself takes when a model has very many layers, or a fan-out very many shards: no sample is scored.

    python -m tests.benchmarks.scale chain                 # 5,000 layers, 100,000 probe rows, in this process
    python -m tests.benchmarks.scale chain --flow          # the same as a Prefect flow
    python -m tests.benchmarks.scale shards                # 200 mapped probe shards with empty work

Whatever scores samples is replaced at the boundary of its stage by made-up numbers: histograms of 4,096 bins, losses,
scores. The rest is real: preparing the model, which runs it on first samples, planning the fan-out, ranking,
searching, and writing the model and the output folder. `chain` fails if the flow adds 500 MiB to the process, or if
planning, everything outside of stages before the output is written, takes 10 seconds (in a flow that is mostly
Prefect's time); `shards` if Prefect takes 5 seconds.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch
from zlib import crc32

import numpy as np
import onnx
import pyarrow as pa

from quant_core.calibration.float_pass import observed_tensors
from quant_core.calibration.histogram import Histogram, histogram_table
from quant_core.config import MixedPrecisionConfig, QuantizationConfig, config_from
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner, Stage, StageFunction
from quant_core.model.layers import layers_from_table
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.topology import Topology
from quant_core.pipeline import steps
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.candidates import probe_rounds
from quant_core.pipeline.finished_run.output import write_output
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import BASELINE, CALIBRATE, EVALUATE, EXPORT, PREPARE, PROBE, VERIFY
from quant_core.probing.racing import sample_rounds
from quant_core.quantization.export import export
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.scoring.sampling import Samples, visit_order
from quant_core.scoring.terms import sample_terms, terms_table
from quant_core.storage.references import refer
from quant_core.storage.schemas import PROBES
from quant_core.storage.tables import with_facts
from tests.benchmarks.ratios import chain_of

Made = TypeVar("Made")

_SAMPLES = 256
_LADDER = ("a16w16", "a16w8", "a8w8", "a8w4")
_MOST_MIB, _MOST_PLANNING, _MOST_PREFECT = 500, 10.0, 5.0


def _loss(layer: str, precision: str) -> float:
    return (
        (1 + crc32(layer.encode()) % 1000) * (1 + _LADDER.index(precision)) ** 2 * 1e-6 if precision in _LADDER else 0
    )


def calibrate(layers: pa.Table, machine: Machine, **_: object) -> pa.Table:
    """A histogram of 4,096 bins for each tensor."""
    graph = prepared_graph(layers, machine.cache)
    tensors = observed_tensors(Topology.of(graph, layers_from_table(layers)))
    counts = np.random.default_rng(0).integers(0, 1000, 4096)
    return histogram_table({name: Histogram(0.0, 1.0, -12, 0, counts) for name in tensors})


def float_outputs(**_: object) -> pa.Table:
    """Outputs of ten numbers a sample."""
    array = np.random.default_rng(1).standard_normal((_SAMPLES, 10)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), 10)
    return with_facts(pa.table({"y": column}), shapes={"y": [10]}, metric=None)


def layer_sensitivity(shard: Sequence[str], precision: str, samples: Samples, **_: object) -> pa.Table:
    """Losses."""
    spread = np.random.default_rng(samples.start).uniform(0.5, 1.5, samples.stop - samples.start)
    columns = {
        "layer": list(shard),
        "precision": [precision] * len(shard),
        "losses": [_loss(name, precision) * spread for name in shard],
        "seconds": [0.0] * len(shard),
    }
    return pa.Table.from_pydict(columns, schema=PROBES)


def _scores(error: float, rows: np.ndarray) -> pa.Table:
    array = np.random.default_rng(1).standard_normal((_SAMPLES, 10)).astype(np.float32)[rows]
    noise = np.random.default_rng(2).uniform(0.9, 1.1, (_SAMPLES, 1))[rows] * np.sqrt(error)
    return terms_table([sample_terms([array], [(array + noise).astype(np.float32)], None)])


def evaluate_plan(plan: Mapping[str, str], samples: Samples, **_: object) -> pa.Table:
    """Scores that follow from the losses of the plan's layers."""
    error = 1e-4 + sum(_loss(name, precision) for name, precision in plan.items())
    return _scores(error, visit_order(_SAMPLES, samples.start, samples.stop))


def score_file(**_: object) -> pa.Table:
    """Scores of a file, which meets every target."""
    return _scores(1e-4, np.arange(_SAMPLES))


class Clock:
    """Seconds of processor time inside stages, by stage: however busy the machine is."""

    def __init__(self) -> None:
        self.seconds = Counter[str]()

    def timed(self, name: str, function: Callable[..., Made], passes_for: Callable[..., Made]) -> Callable[..., Made]:
        """The function with its time taken; in keys it has the module of the one that it passes for."""

        @functools.wraps(passes_for)
        def run(*arguments: object, **named: object) -> Made:
            began = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += time.process_time() - began

        return run

    @contextmanager
    def computed_by(self, stage: Stage, function: StageFunction) -> Iterator[None]:
        """Let a function compute a stage while the block runs, whoever calls it."""
        with patch.dict(vars(stage), function=self.timed(stage.name, function, stage.function)):
            yield


@contextmanager
def made_up(clock: Clock) -> Iterator[None]:
    """No stage runs the model while the block runs; every layer is probed on every sample."""
    replaced = (
        (PREPARE, prepare),
        (CALIBRATE, calibrate),
        (BASELINE, float_outputs),
        (PROBE, layer_sensitivity),
        (EVALUATE, evaluate_plan),
        (EXPORT, export),
        (VERIFY, score_file),
    )
    with ExitStack() as patches:
        patches.enter_context(patch.object(probe_rounds, "open_probes", list))
        timed = clock.timed("write_output", write_output, write_output)
        patches.enter_context(patch.object(steps, "write_output", timed))
        for stage, function in replaced:
            patches.enter_context(clock.computed_by(stage, function))
        yield


def peak_mib() -> float:
    """The largest memory this process has had, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def chain(options: argparse.Namespace) -> int:
    """Run the pipeline on a chain of so many layers."""
    config = config_from(
        wide="float32", narrow=_LADDER, target={"metric": "sqnr_db", "limit": 10}, round_weights="nearest"
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(chain_of(options.layers, channels=4, size=2), folder / "model.onnx")
        np.savez(folder / "data.npz", x=np.random.default_rng(1).standard_normal((_SAMPLES, 4, 2, 2), np.float32))
        with made_up(clock):
            before, began = peak_mib(), time.process_time()
            manifest = (_as_flow if options.flow else _in_process)(folder, config)
        total = time.process_time() - began
    planning = total - sum(clock.seconds.values())
    work, rounds = manifest["work"], len(sample_rounds(_SAMPLES, "auto"))
    print(
        f"{options.layers} layers, {work['probes'] * rounds} probe rows, {work['evaluations']} plans, "
        f"{work['computed_steps']} steps: {total:.1f} s"
    )
    print("of that " + ", ".join(f"{name} {took:.1f} s" for name, took in clock.seconds.items()))
    print(f"planning {planning:.1f} s; {peak_mib() - before:.0f} MiB on top of {before:.0f} before it began")
    wrong = peak_mib() - before >= _MOST_MIB or (planning >= _MOST_PLANNING and not options.flow)
    return int(wrong)


def _in_process(folder: Path, config: MixedPrecisionConfig) -> Mapping[str, object]:
    data = str(folder / "data.npz")
    cache = folder / "cache"
    job = QuantizationJob.of(folder / "model.onnx", data, data, None, config, folder / "out", cache)
    return run_auto(job, Runner(Machine(cache))).manifest.model_dump(mode="json")


def _as_flow(folder: Path, config: MixedPrecisionConfig) -> Mapping[str, object]:
    from flows.auto_mixed_precision import auto_mixed_precision
    from flows.temporary_server import prefect_server

    data = str(folder / "data.npz")
    places = {"output": str(folder / "out"), "workspace": str(folder / "workspace")}
    with prefect_server() as server, server.serving():
        return auto_mixed_precision(str(folder / "model.onnx"), data, data, config, workers=1, **places)


def shards(options: argparse.Namespace) -> int:
    """Map shards with empty work, twice: computed, and found in the store."""
    from prefect import flow

    from flows.temporary_server import prefect_server
    from tasks.cache.workspace import Workspace
    from tasks.executors.choice import ExecutorChoice
    from tasks.executors.executor import executor_of
    from tasks.prefect_runner import PrefectRunner

    each = [{"shard": [f"c{number}"], "precision": "a8w8"} for number in range(options.shards)]
    layers = with_facts(pa.table({"layer": [f"c{number}" for number in range(options.shards)]}), key="k")
    recipe, data = QuantizationRecipe(layers, layers, QuantizationConfig()), refer(__file__)
    took = []

    @flow(persist_result=False)
    def mapped(workspace: str) -> None:
        executor = executor_of(ExecutorChoice(options.runner), 2)
        with PrefectRunner(Workspace.at(workspace), 2, executor) as runner:
            runner.run(PROBE, step="first", recipe=recipe, samples=Samples(data, 0, 1), **each[0])
            for _ in range(2):
                began = time.perf_counter()
                runner.fan_out(PROBE, each, recipe=recipe, samples=Samples(data, 0, 2))
                took.append(time.perf_counter() - began)

    empty = Clock().computed_by(PROBE, _nothing)
    with tempfile.TemporaryDirectory() as folder, empty, prefect_server() as server, server.serving():
        mapped(folder)
    print(f"{options.shards} shards: {took[0]:.2f} s computed, {took[1]:.2f} s found in the store")
    return int(took[0] >= _MOST_PREFECT)


def _nothing(shard: Sequence[str], precision: str, **_: object) -> pa.Table:
    return PROBES.empty_table()


def main() -> int:
    """Measure what the command line asks for."""
    for name, value in {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("chain")
    one.add_argument("--layers", type=int, default=5000)
    one.add_argument("--flow", action="store_true")
    one.set_defaults(measure=chain)
    other = commands.add_parser("shards")
    other.add_argument("--shards", type=int, default=200)
    other.add_argument("--runner", default="thread")
    other.set_defaults(measure=shards)
    options = parser.parse_args()
    return int(options.measure(options))


if __name__ == "__main__":
    sys.exit(main())
