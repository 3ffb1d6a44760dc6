"""Weights that are chosen for the plan found, and the search that goes on from there."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.manifest import Improvement
from quant_core.pipeline.plans import plan_reconstruction
from quant_core.storage.tables import from_ipc
from tests.models import MODELS, samples
from tests.quant_core.pipeline.studies import plan_of, study_of, trial_of

TOLD = Improvement(method="reconstruction", precision=None, layers=1, of=3, before=0.3, after=0.2, kept=True, samples=4)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("rebuilt"), MODELS["transformer"]()
    onnx.save(model, folder / "float.onnx")
    data = samples(model, 24, 1)
    return auto_mixed_precision(
        folder / "float.onnx",
        calibration=data,
        evaluation=data,
        config=config_from(target={"metric": "sqnr_db", "limit": 29}, narrow=["a8w4"], cost="bytes", improve="auto"),
        output=folder / "out",
        workers=1,
    )


def test_the_search_goes_on_from_the_plan_with_its_new_weights_to_a_cheaper_one(found):
    trials = from_ipc((found.folder / "search.arrow").read_bytes()).to_pylist()
    plans = [trial["plan"] for trial in trials]
    again = next(at for at, plan in enumerate(plans) if plan in plans[:at])
    before = trials[plans.index(plans[again])]
    assert trials[again]["score"] > before["score"]
    shipped = next(trial for trial in trials if trial["plan"] == found.plan.digest)
    assert found.met and shipped["cost"] < before["cost"]


def test_the_report_tells_what_the_new_weights_gave(found):
    told = [one for one in found.manifest.improvements if one.precision is None and one.kept]
    assert told and all(one.after < one.before for one in told)
    page = (found.folder / "report.html").read_text()
    assert f"Weights reconstructed in {told[0].layers} of {told[0].of} layers, for the plan found: L2 " in page


@pytest.mark.parametrize("is_cheaper", [True, False])
def test_new_weights_are_used_only_where_no_dearer_plan_comes_of_them(is_cheaper, monkeypatch):
    study = study_of(limit=0.5).study
    study.add(trial_of(plan_of("a8w8", "a16w8", "a16w8"), 0.3, met=True))
    better = replace(study, trials=[study.wide], improvements=(TOLD,))
    if is_cheaper:
        better.add(trial_of(plan_of("a8w8", "a8w8", "a16w8"), 0.4, met=True))
    results = iter([better])
    monkeypatch.setattr(plan_reconstruction, "_reconstructed", lambda *_: next(results, None))
    monkeypatch.setattr(plan_reconstruction, "go_on", lambda *_: None)
    found = plan_reconstruction.reconstructed_search(study, None, None)
    assert found.trials is (better if is_cheaper else study).trials
    assert [one.kept for one in found.improvements] == [is_cheaper]


def test_a_cheaper_plan_that_missed_by_no_more_than_new_weights_give_is_tried_with_its_own(monkeypatch):
    first, near, far = (
        plan_of("a8w8", one, other) for one, other in [("a16w8",) * 2, ("a16w8", "a8w8"), ("a8w8",) * 2]
    )
    study, asked = study_of(limit=0.5).study, []
    study.add(trial_of(first, 0.4, met=True))

    def halved(before, plan, _):
        error = next(trial.score.value for trial in before.trials if trial.plan == plan)
        better = replace(before, trials=[before.wide], improvements=(*before.improvements, TOLD))
        asked.append(plan)
        better.add(trial_of(plan, error / 2, met=error < 1))
        return better

    def going_on(evaluator, _):
        if len(asked) == 1:
            evaluator.study.add(trial_of(near, 0.9, met=False))
            evaluator.study.add(trial_of(far, 1.1, met=False))

    monkeypatch.setattr(plan_reconstruction, "_reconstructed", halved)
    monkeypatch.setattr(plan_reconstruction, "go_on", going_on)
    found = plan_reconstruction.reconstructed_search(study, None, None)
    assert asked == [first, near]
    assert found.best_first()[0].plan == near
