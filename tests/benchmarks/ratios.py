"""Ratios that speed is judged by, each of two things measured in one run on a quiet machine.

python -m tests.benchmarks.ratios probing MODEL.onnx DATA.npz     # probing against plain float forwards
python -m tests.benchmarks.ratios workers MODEL.onnx DATA.npz     # probing on two workers against one
python -m tests.benchmarks.ratios racing MODEL.onnx DATA.npz --max-l2 0.25    # against all samples
python -m tests.benchmarks.ratios overhead MODEL.onnx DATA.npz --max-l2 0.25  # the flow against the engine
python -m tests.benchmarks.ratios chains                          # from 50 to 400 layers
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from quant_core.config import MixedPrecisionConfig, Target
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.auto import auto_mixed_precision
from quant_core.pipeline.candidates.probe_rounds import probe_rounds
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.steps import baseline, calibrate, prepare
from quant_core.results.outcome import Outcome
from quant_core.scoring.float_outputs import float_outputs
from tests.benchmarks.processes import measured
from tests.models import build


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to be probed."""

    study: Study
    machine: Machine

    @classmethod
    def of(cls, model: str, data: str, folder: Path, **config: object) -> Prepared:
        settings = MixedPrecisionConfig(target=Target(metric="l2", limit=1.0), **config)
        job = QuantizationJob.of(model, data, data, None, settings, folder / "out", folder)
        runner = Runner(Machine(folder, 2))
        layers = prepare(job, runner)
        return cls(baseline(job, layers, calibrate(job, layers, runner), runner), runner.machine)

    def probing(self, workers: int) -> float:
        """Seconds to probe every layer."""
        runner = Runner(Machine(self.machine.cache, workers))
        probe_rounds(self.study, runner)
        return runner.seconds["probe"]

    def forwards(self) -> float:
        """Seconds for one plain pass of the float model over the data, on one thread."""
        job, alone = self.study.job, Machine(self.machine.cache, workers=1)
        began = time.perf_counter()
        float_outputs(job.model, self.study.layers, job.evaluation, 0, None, None, alone)
        return time.perf_counter() - began


def suffix_share(graph: FloatGraph, layers: list[Layer]) -> float:
    """Multiply-accumulates of all that each layer's narrowing reaches, summed, over those of the model."""
    macs = {index: layer.macs / len(layer.nodes) for layer in layers for index in layer.nodes}
    return sum(_reached(graph, layer, macs) for layer in layers) / sum(macs.values())


def _reached(graph: FloatGraph, layer: Layer, macs: dict[int, float]) -> float:
    changed: set[str] = set()
    work = 0.0
    for index, node in enumerate(graph.nodes):
        if index in layer.nodes or not changed.isdisjoint([*node.input, *outer_names(node)]):
            changed.update(name for name in node.output if name)
            work += macs.get(index, 0.0)
    return work


def probing(options: argparse.Namespace, folder: Path) -> None:
    """All samples, one worker, the engine alone."""
    ready = Prepared.of(options.model, options.data, folder, samples="all")
    ready.probing(workers=2)  # the first time weights are quantized too
    once, took = ready.forwards(), ready.probing(workers=1)
    graph = prepared_graph(ready.study.layers, folder)
    share = suffix_share(graph, layers_from_table(ready.study.layers))
    print(f"a float pass {once:.2f} s, suffixes are {share:.2f} passes, probing {took:.2f} s")
    print(f"probing is {took / (share * once):.2f} times its suffixes at the price of float passes")


def workers(options: argparse.Namespace, folder: Path) -> None:
    """The same probes with one worker and with two."""
    ready = Prepared.of(options.model, options.data, folder)
    ready.probing(workers=2)  # the first time weights are quantized too
    one, two = ready.probing(workers=1), ready.probing(workers=2)
    print(f"probing {one:.2f} s on one worker, {two:.2f} s on two: {one / two:.2f} times as fast")


def racing(options: argparse.Namespace, folder: Path) -> None:
    """The whole search with samples shared out by the race, and with all samples for every probe."""
    for samples in ("auto", "all"):
        config = MixedPrecisionConfig(target=Target(metric="l2", limit=options.max_l2), samples=samples)
        made = auto_mixed_precision(
            options.model, calibration=options.data, evaluation=options.data, config=config, output=folder / samples
        )
        found, work, seconds = made.manifest.narrowed, made.manifest.work, made.manifest.seconds
        print(
            f"samples {samples}: MACs share {found.macs_share:.3f}, target met {made.manifest.target.met}, "
            f"{work.probe_samples} samples probed, {work.evaluations} evaluations, probing {seconds.get('probe', 0.0):.1f} s"
        )


_ENGINE = """
import sys
from quant_core import MixedPrecisionConfig, auto_mixed_precision
model, data, limit, out = sys.argv[1:]
config = MixedPrecisionConfig(target={"metric": "l2", "limit": float(limit)})
auto_mixed_precision(model, calibration=data, evaluation=data, config=config, output=out)
"""


def overhead(options: argparse.Namespace, folder: Path) -> None:
    """Whole processes: the command with its Prefect server, and the engine alone."""
    limit = repr(options.max_l2)
    alone = measured([sys.executable, "-c", _ENGINE, options.model, options.data, limit, str(folder / "engine")])
    command = [sys.executable, "-m", "flows.command_line", "auto", options.model, "--json", "--max-l2", limit]
    command += ["--calibration", options.data, "--evaluation", options.data]
    command += ["--workspace", str(folder / "workspace"), "--out", str(folder / "flow")]
    environment = {"PREFECT_HOME": str(folder / "prefect")}
    measured([sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"], **environment)
    flow = measured(command, **environment)
    tasks = json.loads((folder / "flow" / "manifest.json").read_text())["work"]["computed_steps"]
    more, allowed = flow.seconds - alone.seconds, 12 + 0.01 * tasks
    print(f"engine {alone.seconds:.1f} s, flow {flow.seconds:.1f} s: {more:.1f} s more, with {tasks} tasks")
    print(f"that is {more / allowed:.2f} times 12 s + 10 ms a task")


def chain_of(layers: int, channels: int = 8, size: int = 16) -> onnx.ModelProto:
    """Convolutions in a row, each followed by a Relu."""
    steps = [
        f"c{i} = Conv<pads=[1,1,1,1]>({f'r{i - 1}' if i else 'x'}, w{i})  r{i} = Relu(c{i})" for i in range(layers)
    ]
    shape = f"N,{channels},{size},{size}"
    random = np.random.default_rng(0)
    draw = (channels, channels, 3, 3)
    weights = {f"w{i}": random.normal(0, (2 / (9 * channels)) ** 0.5, draw).astype(np.float32) for i in range(layers)}
    return build(
        f"(float[{shape}] x) => (float[{shape}] y) {{ {' '.join(steps)} y = Identity(r{layers - 1}) }}", weights
    )


CHAIN_SAMPLES = 256
"""Enough that opening a session a probe, which no suffix explains, is not what is measured."""


def chains(options: argparse.Namespace, folder: Path) -> None:
    """Seconds of each stage by the number of layers, and of a layer's probe by the layers that follow it."""
    for count in options.layers:
        place = folder / str(count)
        place.mkdir()
        onnx.save(chain_of(count), place / "chain.onnx")
        shape = (CHAIN_SAMPLES, 8, 16, 16)
        np.savez(place / "data.npz", x=np.random.default_rng(1).standard_normal(shape, np.float32))
        given = str(place / "chain.onnx"), str(place / "data.npz")

        def searched(limit: float, output: Path, given: tuple[str, str] = given) -> Outcome:
            # All samples: how many a race takes is another question.
            config = MixedPrecisionConfig(target=Target(metric="l2", limit=limit), samples="all")
            model, data = given
            return auto_mixed_precision(model, calibration=data, evaluation=data, config=config, output=output)

        scores = searched(1e9, place / "all").manifest.scores
        made = searched((scores.wide["l2"] + scores.mixed["l2"]) / 2, place / "half")
        seconds, tried = made.manifest.seconds, made.manifest.work.evaluations
        suffixes = count * (count + 1) / 2
        stages = ", ".join(f"{name} {1000 * took / count:.2f}" for name, took in seconds.items() if name != "probe")
        probe = 1e6 * seconds.get("probe", float("nan")) / (CHAIN_SAMPLES * suffixes)
        print(
            f"{count} layers: probes {probe:.2f} us a layer of a suffix and sample; ms a layer: {stages} ({tried} tried)"
        )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for measure in (probing, workers, racing, overhead, chains):
        command = commands.add_parser(measure.__name__, help=(measure.__doc__ or "").strip())
        command.set_defaults(measure=measure)
        if measure is chains:
            command.add_argument("--layers", type=int, nargs="+", default=[50, 100, 200, 400])
            continue
        command.add_argument("model")
        command.add_argument("data")
        if measure in (racing, overhead):
            command.add_argument("--max-l2", type=float, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.measure(options, Path(folder))


if __name__ == "__main__":
    main()
