"""Recipes that are compared on held-out samples."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from quant_core.pipeline import tried_recipe
from quant_core.pipeline.calibration_trial import CalibrationTrial
from quant_core.pipeline.tried_recipe import TriedRecipe
from quant_core.precision import Precision
from quant_core.storage.tables import with_facts
from tests.quant_core.workbench import Workbench

NARROW = Precision.parse("a8w8")


@pytest.mark.parametrize(("l2", "kept"), [(0.98, True), (0.995, False), (1.01, False)])
def test_operators_are_added_only_for_a_gain_that_is_worth_them(l2, kept, workbench, monkeypatch):
    made: Workbench = workbench("transformer")
    migrated = with_facts(made.recipe.layers, migrated=["x"], migrated_layers=["up"])
    job = SimpleNamespace(calibration=None, config=SimpleNamespace(batch_size=None))
    trial = CalibrationTrial(job, made.recipe.layers, on=SimpleNamespace(run=lambda *_, **__: migrated))
    monkeypatch.setattr(CalibrationTrial, "l2", lambda *_: l2)
    monkeypatch.setattr(tried_recipe, "rounded_weights", lambda *_: ())
    monkeypatch.setattr(tried_recipe, "histograms", lambda *_: made.calibration)
    found = TriedRecipe(trial, made.recipe, (NARROW,), {NARROW: 1.0}).migrated(NARROW)
    assert found.change == pytest.approx(math.log(l2))
    assert found.is_better is found.told[0].kept is kept
