"""How plans are scored."""

import numpy as np
import onnxruntime as ort
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.execution.runner import Runner
from quant_core.pipeline.stages import EVALUATE
from quant_core.scoring import sampling
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.fixture
def evaluated(monkeypatch):
    """What each plan was scored with, in order."""
    asked, fan_out = [], Runner.fan_out

    def recorded(self, stage, each, **arguments):
        if stage is EVALUATE:
            asked.append({**arguments, "each": each})
        return fan_out(self, stage, each, **arguments)

    monkeypatch.setattr(Runner, "fan_out", recorded)
    return asked


def run(tmp_path, limit, name, **options):
    model = MODELS["chain"]()
    arrays = samples(model, 12, 1)
    settings = config_from(target={"metric": "l2", "limit": limit}, lift="none", **options)
    return auto_mixed_precision(
        saved(model, tmp_path), calibration=arrays, evaluation=arrays, config=settings, output=tmp_path / name
    )


def test_the_wide_plan_is_scored_in_fast_numerics_and_exactly_near_the_limit(evaluated, tmp_path):
    far = run(tmp_path, 100.0, "far").manifest.scores
    assert [one["fast"] for one in evaluated] == [True, False]  # all wide, all narrow
    evaluated.clear()
    near = run(tmp_path, far.wide["l2"] * 1.002, "near").manifest.scores
    assert [one["fast"] for one in evaluated[:2]] == [True, False]
    assert near.wide["l2"] == pytest.approx(far.wide["l2"], rel=1e-3)
    evaluated.clear()
    run(tmp_path, 100.0, "fine", wide="a16w16")
    assert not any(one["fast"] for one in evaluated)


def test_where_classes_are_counted_only_samples_that_may_change_theirs_are_scored(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "_MACS_A_ROUND", 1)  # as of a model that is worth rounds
    model, count = MODELS["chain"](), 640
    arrays, path = samples(model, count, 1), saved(model, tmp_path)
    found = ort.InferenceSession(path).run(None, arrays)[0]
    arrays["labels"] = found.argmax(axis=1)
    outcome = auto_mixed_precision(
        path,
        calibration=arrays,
        evaluation=arrays,
        config=config_from(target={"metric": "top1_drop", "limit": 0.1}, lift="none"),
        output=tmp_path / "out",
    )
    whole, wide, narrow, pairs = (one["each"][0]["samples"] for one in evaluated)
    assert [one["fast"] for one in evaluated] == [True, False, False, False]
    first, second = np.sort(found, axis=1)[:, :-3:-1].T
    assert not whole.numbers and not pairs.numbers
    assert wide.numbers == narrow.numbers == tuple(np.sort(np.argsort(first - second)[: count // 16]))
    assert outcome.met and outcome.manifest.samples.evaluation == count
