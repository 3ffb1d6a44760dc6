"""The score that is told is the score of the file as its runtime opens it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from quant_core.config import LayerWiseConfig, MixedPrecisionConfig
from quant_core.errors import TargetError
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.pipeline.auto import auto_mixed_precision, run_auto
from quant_core.pipeline.finished_run import deployment
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.runtimes import registry
from quant_core.runtimes.kernels import layer_kernels
from quant_core.scoring import sampling
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

COUNT = 64


def mean_distance(first, second) -> float:
    return float(np.linalg.norm((first - second).reshape(COUNT, -1).astype(np.float64), axis=1).mean())


def default_session_l2(model, quantized, feeds) -> float:
    """As an application would measure it, with nothing of ours."""
    runs = [ort.InferenceSession(source).run(None, feeds)[0] for source in (model, quantized)]
    return mean_distance(*runs)


@pytest.fixture
def fused(monkeypatch):
    """The default runtime, with its products written so that they are fused to MatMulNBits."""
    profile = replace(registry.PROFILES["onnxruntime"], keeps_matmuls_apart=False)
    monkeypatch.setattr(registry, "PROFILES", {**registry.PROFILES, "onnxruntime": profile})


@pytest.fixture
def network(tmp_path):
    model = MODELS["two-activations"]()
    return saved(model, tmp_path), samples(model, COUNT)


def shipped(network, folder, **config):
    model, data = network
    made = layer_wise(
        model, tensors={}, calibration=data, config=LayerWiseConfig(**config), output=folder / "out", workers=1
    )
    return made, default_session_l2(str(model), str(made.folder / "model.onnx"), data)


@pytest.mark.parametrize("options", [{}, {"wide": "au8w8", "per_channel": True}, {"wide": "a8w4"}], ids=str)
def test_the_told_score_is_that_of_a_default_session(network, tmp_path, options):
    made, measured = shipped(network, tmp_path, **options)
    assert made.manifest.scores.mixed["l2"] == pytest.approx(measured, rel=5e-3)
    assert made.manifest.deployed.runtime == "onnxruntime" and not made.manifest.deployed.differs


def test_what_layers_run_as_and_their_pace_is_told_without_being_asked(network, tmp_path):
    made, _ = shipped(network, tmp_path)
    found = made.manifest.deployed
    assert found.pace.float > 0 and found.pace.mixed > 0 and made.manifest.latency is None
    assert bool(found.faster) == (found.pace.mixed > 1.05 * found.pace.float)
    assert [one.layer for one in found.layers] == list(made.manifest.plan)
    page = (made.folder / "report.html").read_text()
    assert "Layers run in onnxruntime as " in page and "of the machine that ran this, a sample takes" in page


def test_what_is_faster_counts_layers_not_the_nodes_that_share_a_weight(tmp_path, monkeypatch):
    monkeypatch.setattr(deployment, "is_slower", lambda *times: True)
    model = MODELS["shared-weight"]()
    found = shipped((saved(model, tmp_path), samples(model, COUNT)), tmp_path)[0].manifest.deployed
    assert len(found.layers) == 3 and found.faster.startswith("--wide float32 (2 of 2 layers are computed in float")


def test_a_fusion_that_changes_the_score_is_told_with_the_nodes(network, tmp_path, fused):
    made, measured = shipped(network, tmp_path)
    found = made.manifest.deployed
    assert made.manifest.scores.mixed["l2"] == pytest.approx(measured, rel=5e-3)
    assert found.differs and found.reference["l2"] < 0.9 * measured
    assert all("MatMulNBits" in reason for reason in found.reasons) and found.reasons
    assert "computed exactly as the Q/DQ pairs say, it is" in (made.folder / "report.html").read_text()


def test_the_reference_is_scored_as_the_pairs_say(network, tmp_path):
    made, _ = shipped(network, tmp_path, runtime="reference")
    assert made.manifest.deployed.reference["l2"] == made.manifest.scores.mixed["l2"]


def test_what_misses_in_the_runtime_sends_the_search_there(network, tmp_path, fused):
    model, data = network
    _, measured = shipped(network, tmp_path)

    def run(limit, **options):
        config = MixedPrecisionConfig(
            wide="a16w8", narrow=("a8w8",), target={"metric": "l2", "limit": limit}, search="bisect", **options
        )
        return auto_mixed_precision(
            model, calibration=data, evaluation=data, config=config, output=tmp_path / "auto", workers=1
        )

    found = run(1.2 * measured)
    told = found.manifest.scores.mixed["l2"]
    assert found.met and told <= 1.2 * measured
    assert told == pytest.approx(default_session_l2(str(model), str(found.folder / "model.onnx"), data), rel=5e-3)
    throughout = run(1.2 * measured, score_in="runtime")
    assert throughout.met and throughout.manifest.narrowed.layers >= found.manifest.narrowed.layers


def test_where_every_plan_misses_in_the_runtime_layers_are_lifted(network, tmp_path, fused):
    model, data = network
    made, measured = shipped(network, tmp_path)
    simulated = made.manifest.deployed.reference["l2"]
    target = {"metric": "l2", "limit": (simulated + measured) / 2}
    config = MixedPrecisionConfig(wide="a16w8", narrow=("a8w8",), target=target)
    found = auto_mixed_precision(
        model, calibration=data, evaluation=data, config=config, output=tmp_path / "auto", workers=1
    )
    assert found.met and found.manifest.narrowed.lifted
    assert default_session_l2(str(model), str(found.folder / "model.onnx"), data) <= target["limit"]


def test_where_no_file_meets_the_target_the_one_of_least_error_is_shipped(tmp_path, fused):
    model = MODELS["transformer"]()
    network = saved(model, tmp_path), samples(model, COUNT)
    _, wide = shipped(network, tmp_path)
    # The wide model meets it in simulation; in its runtime it misses, and a plan that narrows layers comes nearer.
    config = MixedPrecisionConfig(
        wide="a16w8",
        narrow=("a8w8",),
        target={"metric": "l2", "limit": 0.0565},
        samples="all",
        lift="none",
        float_tensors=False,
    )
    model, data = network
    with pytest.raises(TargetError) as missed:
        auto_mixed_precision(
            model, calibration=data, evaluation=data, config=config, output=tmp_path / "auto", workers=1
        )
    made = missed.value.outcome
    assert 0.0565 < made.manifest.scores.mixed["l2"] < 0.99 * wide
    assert made.manifest.narrowed.layers > 0


def test_kernels_are_those_of_the_default_session(network, tmp_path, fused):
    made, _ = shipped(network, tmp_path)
    assert {kernel.runs_as for kernel in layer_kernels(made.folder / "model.onnx")} <= {"MatMulNBits", "MatMul"}


def test_layers_between_8_bit_pairs_run_as_integers_and_others_say_why_not(network, tmp_path):
    made, _ = shipped(network, tmp_path, wide="au8w8")
    assert all(kernel.is_integer and not kernel.why for kernel in layer_kernels(made.folder / "model.onnx")[:1])
    made, _ = shipped(network, tmp_path, wide="a16w8")
    assert all(kernel.why and not kernel.is_integer for kernel in layer_kernels(made.folder / "model.onnx"))


def reference_session_l2(model, quantized, feeds) -> float:
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    runs = [ort.InferenceSession(model).run(None, feeds)[0], ort.InferenceSession(quantized, plain).run(None, feeds)[0]]
    return float(np.linalg.norm((runs[1] - runs[0]).reshape(len(runs[0]), -1).astype(np.float64), axis=1).mean())


class RecordingRunner(Runner):
    """Keeps the arguments of each call of `verify`."""

    def __init__(self, machine):
        super().__init__(machine)
        self.verified = []

    def run(self, stage, /, **arguments):
        if stage.name == "verify":
            self.verified.append(arguments)
        return super().run(stage, **arguments)


@pytest.mark.parametrize(("count", "simulated"), [(48, 48), (512, 64)], ids=str)
def test_the_reference_of_a_plan_that_was_simulated_is_not_computed_again(
    network, tmp_path, monkeypatch, count, simulated
):
    monkeypatch.setattr(sampling, "_MACS_A_ROUND", 1)  # as of a model that is worth rounds
    model = MODELS["two-activations"]()
    np.savez(tmp_path / "data.npz", **samples(model, count))
    source, data = str(network[0]), str(tmp_path / "data.npz")
    config = MixedPrecisionConfig(wide="a16w8", narrow=("a8w8",), target={"metric": "l2", "limit": 1e3})
    job = QuantizationJob.of(source, data, data, None, config, tmp_path / "out", tmp_path)
    runner = RecordingRunner(Machine(tmp_path, 1))
    made = run_auto(job, runner)
    found = made.manifest.deployed
    measured = reference_session_l2(source, str(tmp_path / "out" / "model.onnx"), samples(model, count))
    assert [arguments["runtime"] for arguments in runner.verified] == ["onnxruntime"]
    assert found.reference_samples == simulated
    assert found.reference["l2"] == pytest.approx(measured, rel=5e-3)
