"""A run that keeps its frontier, and models picked from it afterwards."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from quant_core import InputError, TargetError, auto_mixed_precision
from quant_core.config import config_from
from quant_core.execution.machine import Machine
from quant_core.execution.progress import Watcher, watched_by
from quant_core.pipeline.picking.pick import pick
from quant_core.report.page import report_page
from quant_core.results.outcome import open_outcome
from quant_core.storage.tables import facts
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

pick_module = importlib.import_module("quant_core.pipeline.picking.pick")

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
        assert found.manifest.scores.mixed["l2"] <= row["l2"]
        assert found.plan.as_dict() == found.manifest.plan
        measured = l2(found.model, run.manifest.sources.model, evaluation)
        assert measured == pytest.approx(found.manifest.scores.mixed["l2"], rel=1e-3)


def test_the_cheapest_plan_within_the_limit_is_picked(frontier, tmp_path):
    run, _, cache = frontier
    limit = sorted(row["l2"] for row in rows(frontier))[2]
    found = pick(run, "l2", limit, tmp_path, Machine(cache))
    cheapest = min((row for row in rows(frontier) if row["l2"] <= limit), key=lambda row: row["cost"])
    assert found.plan.as_dict() == json.loads(cheapest["precisions"])
    assert open_outcome(tmp_path).manifest == found.manifest
    assert found.manifest.narrowed.bops_ratio == pytest.approx(cheapest["cost_ratio"])
    assert found.manifest.costs.of("bops").mixed == cheapest["cost"]


def test_at_the_runs_own_target_the_file_is_the_one_it_shipped(frontier, tmp_path):
    run, _, cache = frontier
    found = pick(run, "l2", 0.02, tmp_path, Machine(cache))
    assert found.manifest.output == run.manifest.output
    assert found.model.read_bytes() == run.model.read_bytes()


def test_a_picked_folder_is_a_whole_result_and_its_report_can_be_made_again(frontier, tmp_path):
    run, _, cache = frontier
    limit = sorted(row["l2"] for row in rows(frontier))[2]
    found = pick(run, "l2", limit, tmp_path / "picked", Machine(cache))
    files = {path.name for path in run.folder.iterdir()} - {"samples.arrow"}  # the data were given in memory
    assert {path.name for path in found.folder.iterdir()} == files
    page = found.report.read_text()
    assert page == report_page(found.manifest, open_outcome(found.folder).tables())
    assert f"narrowcast pick {run.folder}" in page and f"--max-l2 {limit:.10g}" in page
    search = found.table("search").to_pylist()
    assert [row["accepted"] for row in search] == [row["score"] <= limit for row in search]
    assert {row["precisions"] for row in search} == {row["precisions"] for row in rows(frontier)}
    carried = facts(found.table("calibration"))["carried"]
    assert carried != facts(run.table("calibration"))["carried"] and carried.keys() == set(
        found.table("calibration").column("tensor").to_pylist()
    )


def test_a_model_can_be_picked_from_a_picked_folder(frontier, tmp_path):
    run, _, cache = frontier
    strict, loose = (min(row["l2"] for row in rows(frontier)), max(row["l2"] for row in rows(frontier)))
    once = pick(run, "l2", strict, tmp_path / "once", Machine(cache))
    again = pick(once, "l2", loose, tmp_path / "again", Machine(cache))
    assert again.manifest.output == pick(run, "l2", loose, tmp_path / "direct", Machine(cache)).manifest.output


@pytest.mark.parametrize("metric", [None, "sqnr_db", "kl"])
def test_within_a_budget_the_best_plan_is_picked(frontier, tmp_path, metric):
    run, _, cache = frontier
    found = pick(run, metric, None, tmp_path, Machine(cache), {"max_bops": 0.4})
    inside = [row for row in rows(frontier) if row["cost_ratio"] <= 0.4]
    best = (max if metric == "sqnr_db" else min)(row[metric or "l2"] for row in inside)
    assert found.manifest.scores.mixed[metric or "l2"] == best
    assert found.met and found.manifest.budget.share == pytest.approx(found.manifest.narrowed.bops_ratio)
    assert "Within budget" in found.report.read_text()


def test_a_budget_and_a_target_must_both_be_kept(frontier, tmp_path):
    run, _, cache = frontier
    best = min(row["l2"] for row in rows(frontier) if row["cost_ratio"] <= 0.4)
    asked = Machine(cache), {"max_bops": "40%"}
    assert pick(run, "l2", best, tmp_path / "a", *asked).manifest.scores.mixed["l2"] == best
    with pytest.raises(TargetError, match=r"no plan on the frontier within bops <= 0.4 of the wide model meets l2 <= "):
        pick(run, "l2", 0.99 * best, tmp_path / "b", *asked)
    with pytest.raises(TargetError, match=r"no plan on the frontier is within bops <= 0.01 .*: the cheapest is at "):
        pick(run, None, None, tmp_path / "b", asked[0], {"max_bops": 0.01})
    with pytest.raises(InputError, match="max_bytes: the run's frontier is of the cost 'bops', not of 'bytes'"):
        pick(run, None, None, tmp_path / "b", asked[0], {"max_bytes": "1kB"})
    with pytest.raises(InputError, match=r"target.metric: Input should be 'top1_drop'"):
        pick(run, "l3", None, tmp_path / "b", *asked)
    assert not (tmp_path / "b").exists()


def test_a_lost_workspace_is_made_good_from_the_model(frontier, tmp_path):
    run, _, cache = frontier
    found = [pick(run, "sqnr_db", 30, tmp_path / place.name, Machine(place)) for place in (cache, tmp_path / "new")]
    assert found[0].manifest.output == found[1].manifest.output


def test_a_lost_workspace_of_an_equalized_model_is_made_good_too(tmp_path):
    run, _, _ = quantized(tmp_path, equalize=True)
    found = pick(run, "l2", 0.02, tmp_path / "picked", Machine(tmp_path / "new"))
    assert found.manifest.output == run.manifest.output


def test_what_cannot_be_picked_is_one_line_and_nothing_is_written(frontier, tmp_path):
    run, _, cache = frontier
    machine, out = Machine(cache), tmp_path / "out"
    with pytest.raises(TargetError, match=r"no plan on the frontier meets l2 <= 1e-09: the best is at "):
        pick(run, "l2", 1e-9, out, machine)
    with pytest.raises(InputError, match="did not measure top1_drop; it measured l2, sqnr_db, kl, cosine"):
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


def on_disk(folder, **options):
    """A finished run with a frontier whose data are files."""
    model = MODELS["two-activations"]()
    np.savez(folder / "data.npz", **samples(model, 32, 1))
    config = config_from(
        target={"metric": "l2", "limit": 100.0}, frontier=True, wide="a16w16", narrow=["a8w8"], **options
    )
    data = str(folder / "data.npz")
    run = auto_mixed_precision(
        saved(model, folder),
        calibration=data,
        evaluation=data,
        config=config,
        output=folder / "out",
        workers=1,
        cache=folder / "cache",
    )
    return run, dict(np.load(data))


def test_the_score_of_a_picked_file_is_that_of_its_runtime(tmp_path):
    run, feeds = on_disk(tmp_path)
    found = pick(run, "l2", 100.0, tmp_path / "picked", Machine(tmp_path / "cache"))
    before, after = (
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for path in (run.manifest.sources.model, found.model)
    )
    measured = np.linalg.norm((after - before).reshape(len(before), -1), axis=1).mean()
    assert found.manifest.scores.mixed["l2"] == pytest.approx(measured, rel=1e-4)
    assert found.manifest.deployed.runtime == "onnxruntime"
    assert found.manifest.standard_errors.mixed["l2"] > 0
    assert found.manifest.samples.evaluation == 32


def test_a_plan_that_misses_as_deployed_is_passed_over(tmp_path, monkeypatch):
    run, _ = on_disk(tmp_path)
    true, frontier = pick_module.picked_score, run.table("frontier").to_pylist()
    cheapest = frontier[0]["layers_narrowed"]

    def worse_for_the_cheapest(run, layers, config, file, machine):
        found = true(run, layers, config, file, machine)
        seen.append(found.bound)
        return replace(found, bound=1000.0) if len(seen) == 1 else found

    seen: list[float] = []
    monkeypatch.setattr(pick_module, "picked_score", worse_for_the_cheapest)
    found = pick(run, "l2", 100.0, tmp_path / "picked", Machine(tmp_path / "cache"))
    assert len(seen) == 2 and found.manifest.narrowed.layers != cheapest
    seen.clear()
    monkeypatch.setattr(pick_module, "picked_score", lambda *given: replace(true(*given), bound=1000.0))
    with pytest.raises(TargetError, match="no plan on the frontier meets l2 <= 100 as deployed"):
        pick(run, "l2", 100.0, tmp_path / "none", Machine(tmp_path / "cache"))


def test_scores_of_a_run_whose_data_are_gone_are_told_to_be_simulated(tmp_path):
    run, _ = on_disk(tmp_path)
    (tmp_path / "data.npz").unlink()
    told: list[str] = []

    class Listener(Watcher):
        def warned(self, message: str) -> None:
            told.append(message)

    with watched_by(Listener()):
        found = pick(run, "l2", 100.0, tmp_path / "picked", Machine(tmp_path / "cache"))
    assert found.manifest.deployed is None
    assert len(told) == 1 and told[0].endswith("those that the run simulated, not those of the file")
