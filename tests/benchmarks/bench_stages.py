"""How long each stage takes on a small residual network, one benchmark a stage.

pytest -n 0 tests/benchmarks/bench_stages.py       # needs pytest-benchmark; no part of the suite
pytest -n 0 tests/benchmarks/bench_stages.py --benchmark-compare
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from quant_core.calibration.collect import calibrate
from quant_core.config import MixedPrecisionConfig
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.model.layers import layers_from_table
from quant_core.model.preparation.prepare import prepare
from quant_core.pipeline import steps
from quant_core.pipeline.candidates.probe_rounds import probe_rounds
from quant_core.pipeline.finished_run.output import write_output
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.study import Study
from quant_core.precision import PrecisionPlan
from quant_core.probing.ranking import rank
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.quantization.rounding.weight_rounding import rounded_weights
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
        self.job = QuantizationJob.of(model, source, source, None, self.config, folder / "out", folder)
        self.machine = Machine(folder, 2)
        self.runner = Runner(self.machine)
        self.layers = steps.prepare(self.job, self.runner)
        self.calibration = steps.calibrate(self.job, self.layers, self.runner)
        names = [layer.name for layer in layers_from_table(self.layers)]
        self.wide = PrecisionPlan.uniform(names, self.config.wide)
        self.probed = probe_rounds(self.study(), self.runner)
        self.ranking = rank(self.layers, self.probed, self.config.wide)

    def study(self) -> Study:
        """With nothing tried yet but the float model and the wide plan."""
        return steps.baseline(self.job, self.layers, self.calibration, self.runner)

    def searched(self) -> steps.Decision:
        """After the whole search."""
        return steps.search(self.study(), self.ranking, self.runner)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"))


def test_prepare(benchmark, stage):
    benchmark(prepare, stage.job.model, machine=stage.machine, data=stage.job.calibration, **stage.config.preparation())


def test_calibrate(benchmark, stage):
    benchmark(calibrate, stage.layers, stage.job.calibration, None, stage.machine)


def test_round(benchmark, stage):
    benchmark(
        rounded_weights,
        layers=stage.layers,
        data=stage.job.calibration,
        weights="4",
        config=stage.config.quantization(),
        batch_size=None,
        machine=stage.machine,
    )


def test_baseline(benchmark, stage):
    benchmark(stage.study)


def test_probe(benchmark, stage):
    study = stage.study()
    benchmark(probe_rounds, study, stage.runner)


def test_rank(benchmark, stage):
    benchmark(rank, stage.layers, stage.probed, stage.config.wide)


def test_search(benchmark, stage):
    benchmark(stage.searched)


def test_export(benchmark, stage):
    benchmark(_exported, stage)


def test_verify(benchmark, stage):
    file = exported_reference(_exported(stage), stage.machine.cache)
    data, baseline = stage.job.evaluation, stage.study().baseline
    benchmark(score_file, file, stage.layers, baseline, data, None, None, stage.machine)


def test_report(benchmark, stage):
    findings = steps.verify(steps.export(stage.searched(), stage.runner), stage.runner)
    benchmark(write_output, findings, stage.runner)


def _exported(stage):
    recipe = QuantizationRecipe(stage.layers, stage.calibration, stage.config.quantization())
    return export(recipe, stage.wide.as_dict(), stage.machine, tensors=stage.wide.tensor_types())
