import numpy as np
import onnxruntime as ort
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import TargetError
from quant_core.execution.machine import Machine
from quant_core.pipeline.picking.pick import pick
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from tests.models import build
from tests.quant_core.workbench import saved

LOG_OF_SQUARE = """(float[N,2,6] x) => (float[N,4] y) {
    h = Conv (x, w1)
    s = Mul (h, h)
    e = Add (s, tiny)
    l = Log (e)
    f = Flatten (l)
    y = Gemm (f, w2)
}"""
"""A spectrum's logarithm: of the square's values all but the largest are below a step of int16."""


def log_of_square():
    return build(LOG_OF_SQUARE, {"w1": (3, 2, 1), "tiny": np.float32([1e-7]), "w2": (18, 4)})


def quiet_samples(count):
    """Samples of which most are quiet, some loud by a factor of thousands."""
    loudness = 10.0 ** np.random.default_rng(0).uniform(-3, 1, (count, 1, 1))
    return {"x": (loudness * np.random.default_rng(1).standard_normal((count, 2, 6))).astype(np.float32)}


@pytest.fixture(scope="module")
def spectrum(tmp_path_factory):
    return saved(log_of_square(), tmp_path_factory.mktemp("spectrum"))


def run(spectrum, folder, decibels, workers=1, **options):
    data, target = quiet_samples(24), {"metric": "sqnr_db", "limit": decibels}
    config = config_from(target=target, **options)
    return auto_mixed_precision(
        spectrum, calibration=data, evaluation=data, config=config, workers=workers, output=folder / "out"
    )


@pytest.fixture(scope="module")
def found(spectrum, tmp_path_factory):
    """A run that meets 30 dB with tensors in float, with its frontier."""
    return run(spectrum, tmp_path_factory.mktemp("found"), 30, frontier=True)


def test_tensors_that_bits_cannot_help_stay_in_float_and_no_layer_is_lifted(found):
    manifest = found.manifest
    assert manifest.scores.wide["sqnr_db"] < 30 <= manifest.scores.mixed["sqnr_db"]
    assert manifest.narrowed.lifted == 0
    assert {tensor.name for tensor in manifest.float_tensors} <= {"s", "e"}
    assert found.plan.tensor_types() == dict.fromkeys([one.name for one in manifest.float_tensors], "float32")


def test_the_report_names_them(found):
    page = (found.folder / "report.html").read_text()
    assert (
        f"{found.manifest.float_tensors[0].name} (" in page
        and "in float because with every tensor quantized at a16w8" in page
    )


def test_a_pick_of_the_frontier_leaves_the_same_tensors_in_float(found, tmp_path):
    picked = pick(found, None, 20, tmp_path / "picked", Machine(tmp_path / "cache", 1))
    assert picked.manifest.tensors == found.manifest.tensors
    assert picked.manifest.float_tensors == found.manifest.float_tensors
    assert picked.met and picked.manifest.scores.mixed["sqnr_db"] >= 20


def test_the_same_tensors_are_found_by_any_number_of_workers(spectrum, found, tmp_path):
    assert run(spectrum, tmp_path, 30, workers=2).manifest.float_tensors == found.manifest.float_tensors


def test_they_are_found_where_plans_are_scored_from_their_files(spectrum, found, tmp_path):
    outcome = run(spectrum, tmp_path, 30, score_in="runtime")
    assert outcome.met and {tensor.name for tensor in outcome.manifest.float_tensors} <= {"s", "e"}


def test_without_them_lifting_layers_is_of_no_use(spectrum, tmp_path):
    with pytest.raises(TargetError) as caught:
        run(spectrum, tmp_path, 30, float_tensors=False)
    assert not caught.value.outcome.manifest.tensors


def test_the_best_plan_that_misses_leaves_them_in_float_too(spectrum, tmp_path):
    with pytest.raises(TargetError) as caught:
        run(spectrum, tmp_path, 60, lift="none")
    best = caught.value.outcome.manifest
    assert best.float_tensors and best.scores.mixed["sqnr_db"] > best.scores.wide["sqnr_db"] + 10


def test_where_classes_are_counted_samples_near_a_boundary_say_whether_they_help(spectrum, tmp_path, monkeypatch):
    steps, on_share = [], PlanEvaluator.scores_on_share

    def recorded(self, plan, share, step):
        steps.append(step)
        return on_share(self, plan, share, step)

    monkeypatch.setattr(PlanEvaluator, "scores_on_share", recorded)
    data = quiet_samples(64)
    data["labels"] = ort.InferenceSession(spectrum).run(None, data)[0].argmax(axis=1)
    outcome = auto_mixed_precision(
        spectrum,
        calibration=data,
        evaluation=data,
        config=config_from(target={"metric": "top1_drop", "limit": 0.02}),
        output=tmp_path / "out",
    )
    assert outcome.manifest.scores.wide["top1_drop"] > 0.02
    assert outcome.met and outcome.manifest.float_tensors
    assert "baseline" not in steps
