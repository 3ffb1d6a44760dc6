"""No plan is accepted early whose file misses the limit by more than the error that was allowed for."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.verdicts import begun, random_plan, verdicts
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


def test_an_early_verdict_is_that_of_the_file_within_the_stated_error(tmp_path):
    model = MODELS["two-activations"]()
    np.savez(tmp_path / "data.npz", **samples(model, 512))
    study, on = begun(saved(model, tmp_path), tmp_path / "data.npz", tmp_path, workers=1)
    generator = np.random.default_rng(0)
    found = [one for _ in range(6) for one in verdicts(study, on, random_plan(study, generator), limits=8)]
    accepted = [one for one in found if one.accepted]
    assert accepted and any(one.samples < 512 for one in accepted)
    assert any(not one.accepted for one in found)
    assert all(one.missed_by <= one.stated for one in accepted)
