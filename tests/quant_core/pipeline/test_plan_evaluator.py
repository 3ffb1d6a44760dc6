"""How plans are scored."""

import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.execution.runner import Runner
from quant_core.pipeline.stages import EVALUATE
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.fixture
def fast(monkeypatch):
    """Whether each plan was scored in fast numerics, in order."""
    asked, fan_out = [], Runner.fan_out

    def recorded(self, stage, each, **arguments):
        if stage is EVALUATE:
            asked.append(arguments["fast"])
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


def test_the_wide_plan_is_scored_in_fast_numerics_and_exactly_near_the_limit(fast, tmp_path):
    far = run(tmp_path, 100.0, "far").manifest.scores
    assert fast == [True, False]  # all wide, all narrow
    fast.clear()
    near = run(tmp_path, far.wide["l2"] * 1.002, "near").manifest.scores
    assert fast[:2] == [True, False]
    assert near.wide["l2"] == pytest.approx(far.wide["l2"], rel=1e-3)
    fast.clear()
    run(tmp_path, 100.0, "fine", wide="a16w16")
    assert not any(fast)
