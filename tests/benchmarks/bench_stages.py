"""How long each stage takes on a small residual network, one benchmark a stage.

pytest tests/benchmarks/bench_stages.py            # needs pytest-benchmark; no part of the suite
pytest tests/benchmarks/bench_stages.py --benchmark-compare
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from quant_core.calibration.collect import calibrate
from quant_core.config import MixedPrecisionConfig
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Stages
from quant_core.model.layers import layers_from_table
from quant_core.model.prepare import prepare
from quant_core.pipeline.auto import _probes
from quant_core.pipeline.finished_run import Findings, write_output
from quant_core.pipeline.plan_search import search_plans
from quant_core.pipeline.steps import begun, calibrated, prepared_layers, request_of
from quant_core.pipeline.study import Trials
from quant_core.precision import PrecisionPlan
from quant_core.probing.ranking import rank
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.weight_rounding import rounded_weights
from quant_core.scoring.evaluation import score_file
from tests.benchmarks.ratios import chain_of

_LAYERS, _SAMPLES = 24, 256


class Bench:
    """Everything a stage needs to run."""

    def __init__(self, folder: Path) -> None:
        onnx.save(chain_of(_LAYERS), folder / "model.onnx")
        data = np.random.default_rng(1).standard_normal((_SAMPLES, 8, 16, 16), np.float32)
        np.savez(folder / "data.npz", x=data)
        model, source = str(folder / "model.onnx"), str(folder / "data.npz")
        self.config = MixedPrecisionConfig(target={"metric": "sqnr_db", "limit": 20})
        self.request = request_of(model, source, source, None, self.config, folder / "out", folder)
        self.stages = Stages(Machine(folder, 2))
        self.machine = self.stages.machine
        self.layers = prepared_layers(self.request, self.stages)
        self.calibration = calibrated(self.request, self.stages, self.layers)
        names = [layer.name for layer in layers_from_table(self.layers)]
        self.wide = PrecisionPlan.uniform(names, self.config.wide)
        self.probed = _probes(self.trials())
        self.ranking = rank(self.layers, self.probed, self.config.wide)

    def trials(self) -> Trials:
        """With nothing tried yet but the float model."""
        return begun(
            self.request,
            self.stages,
            self.layers,
            self.calibration,
            (self.config.wide, *self.config.narrow),
            self.config.samples,
        )

    def searched(self) -> Trials:
        """After the whole search."""
        trials = self.trials()
        trials.evaluate(self.wide, "baseline")
        search_plans(trials, self.ranking)
        return trials


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"))


def test_prepare(benchmark, stage):
    benchmark(prepare, stage.request.model, stage.config.candidate_ops, stage.machine)


def test_calibrate(benchmark, stage):
    benchmark(calibrate, stage.layers, stage.request.calibration, None, stage.machine)


def test_round(benchmark, stage):
    benchmark(
        rounded_weights,
        layers=stage.layers,
        data=stage.request.calibration,
        weights="4",
        config=stage.config.quantization(),
        batch_size=None,
        machine=stage.machine,
    )


def test_baseline(benchmark, stage):
    benchmark(stage.trials)


def test_probe(benchmark, stage):
    trials = stage.trials()
    benchmark(_probes, trials)


def test_rank(benchmark, stage):
    benchmark(rank, stage.layers, stage.probed, stage.config.wide)


def test_search(benchmark, stage):
    benchmark(stage.searched)


def test_export(benchmark, stage):
    benchmark(_exported, stage)


def test_verify(benchmark, stage):
    file = exported_reference(_exported(stage), stage.machine.cache)
    data, baseline = stage.request.evaluation, stage.trials().baseline
    benchmark(score_file, file, stage.layers, baseline, data, None, None, stage.machine)


def test_report(benchmark, stage):
    trials = stage.searched()
    shipped = trials.ship(trials.best_first()[0].plan)
    benchmark(write_output, Findings(trials, stage.ranking, shipped, None))


def _exported(stage):
    return export(
        layers=stage.layers,
        calibration=stage.calibration,
        plan=stage.wide.as_dict(),
        tensors=stage.wide.tensor_types(),
        config=stage.config.quantization(),
        machine=stage.machine,
        weights=(),
    )
