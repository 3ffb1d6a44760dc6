"""A run that keeps its frontier, and models picked from it afterwards."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnxruntime as ort
import pytest

from quant_core import InputError, TargetError, auto_mixed_precision
from quant_core.config import config_from
from quant_core.execution.machine import Machine
from quant_core.pick import pick
from quant_core.results.outcome import open_outcome
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

LADDER = {"wide": "a16w16", "narrow": ["a16w8", "a8w8", "a8w4"]}


def quantized(folder, **options):
    """A finished run with a frontier, its evaluation data, and the cache it used."""
    model = MODELS["chain"]()
    calibration = samples(model, 12, 1)
    evaluation = {name: array[:8] for name, array in calibration.items()}
    run = auto_mixed_precision(
        saved(model, folder),
        calibration=calibration,
        evaluation=evaluation,
        config=config_from(target={"metric": "l2", "limit": 0.02}, frontier=True, **LADDER, **options),
        output=folder / "out",
        workers=1,
        cache=folder / "cache",
    )
    return run, evaluation, folder / "cache"


@pytest.fixture(scope="module")
def frontier(tmp_path_factory):
    return quantized(tmp_path_factory.mktemp("frontier"), round_weights="gptq")


def rows(frontier):
    return frontier[0].table("frontier").to_pylist()


def l2(model, floats, feeds):
    """As whoever has the two files finds it, with all optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    before, after = (
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for path in (floats, model)
    )
    return np.linalg.norm((after - before).reshape(len(before), -1), axis=1).mean()


def test_no_plan_of_the_frontier_is_beaten_by_another_in_cost_and_in_every_score(frontier):
    points = [(row["cost"], row["l2"], -row["sqnr_db"], row["kl"], row["cosine"]) for row in rows(frontier)]
    assert len(points) >= 5 and points == sorted(points)
    for point in points:
        others = [other for other in points if other != point]
        assert not any(all(a <= b for a, b in zip(other, point, strict=True)) for other in others)


def test_every_plan_that_is_picked_scores_as_the_frontier_says(frontier, tmp_path):
    run, evaluation, cache = frontier
    for number, row in enumerate(rows(frontier)):
        found = pick(run, "l2", row["l2"], tmp_path / str(number), Machine(cache))
        assert found.manifest["scores"]["mixed"]["l2"] <= row["l2"]
        assert found.plan.as_dict() == found.manifest["plan"]
        measured = l2(found.model, run.manifest["sources"]["model"], evaluation)
        assert measured == pytest.approx(found.manifest["scores"]["mixed"]["l2"], rel=1e-3)


def test_the_cheapest_plan_within_the_limit_is_picked(frontier, tmp_path):
    run, _, cache = frontier
    limit = sorted(row["l2"] for row in rows(frontier))[2]
    found = pick(run, "l2", limit, tmp_path, Machine(cache))
    cheapest = min((row for row in rows(frontier) if row["l2"] <= limit), key=lambda row: row["cost"])
    assert found.plan.as_dict() == json.loads(cheapest["precisions"])
    assert open_outcome(tmp_path).manifest == json.loads(json.dumps(found.manifest))
    assert found.manifest["narrowed"]["bops_ratio"] == pytest.approx(cheapest["cost_ratio"])
    assert found.manifest["costs"]["bops"]["mixed"] == cheapest["cost"]


def test_at_the_runs_own_target_the_file_is_the_one_it_shipped(frontier, tmp_path):
    run, _, cache = frontier
    found = pick(run, "l2", 0.02, tmp_path, Machine(cache))
    assert found.manifest["output"] == run.manifest["output"]
    assert found.model.read_bytes() == run.model.read_bytes()


def test_a_lost_workspace_is_made_good_from_the_model(frontier, tmp_path):
    run, _, cache = frontier
    found = [pick(run, "sqnr_db", 30, tmp_path / place.name, Machine(place)) for place in (cache, tmp_path / "new")]
    assert found[0].manifest["output"] == found[1].manifest["output"]


def test_a_lost_workspace_of_an_equalized_model_is_made_good_too(tmp_path):
    run, _, _ = quantized(tmp_path, equalize=True)
    found = pick(run, "l2", 0.02, tmp_path / "picked", Machine(tmp_path / "new"))
    assert found.manifest["output"] == run.manifest["output"]


def test_what_cannot_be_picked_is_one_line_and_nothing_is_written(frontier, tmp_path):
    run, _, cache = frontier
    machine, out = Machine(cache), tmp_path / "out"
    with pytest.raises(TargetError, match=r"no plan on the frontier meets l2 <= 1e-09: the best is at "):
        pick(run, "l2", 1e-9, out, machine)
    with pytest.raises(InputError, match="did not measure top1_drop, but l2, sqnr_db, kl, cosine"):
        pick(run, "top1_drop", 0.1, out, machine)
    with pytest.raises(InputError, match="must be a finite number"):
        pick(run, "l2", float("nan"), out, machine)
    with pytest.raises(InputError, match="give another folder"):
        pick(run, "l2", 1.0, run.folder, machine)
    plain = tmp_path / "plain"
    shutil.copytree(run.folder, plain)
    (plain / "frontier.arrow").unlink()
    with pytest.raises(InputError, match="with --frontier"):
        pick(open_outcome(plain), "l2", 1.0, out, machine)
    assert not out.exists()
