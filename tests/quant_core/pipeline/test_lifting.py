from itertools import product

import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError, TargetError
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.lifting import rungs_above
from quant_core.pipeline.plan_evaluator import PlanEvaluator
from quant_core.pipeline.steps import baseline, calibrate, prepare
from quant_core.precision import Precision, PrecisionPlan
from quant_core.report.text import metric_text
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

WIDE_SCORES = 0.0038682751012556775
"""L2 of the chain with all layers at a16w8."""


def config(limit, **options):
    return config_from(target={"metric": "l2", "limit": limit}, **options)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The model's file, data to calibrate, and some of the same to evaluate."""
    model = MODELS["chain"]()
    calibration = samples(model, 12, 1)
    evaluation = {name: array[:8] for name, array in calibration.items()}
    return saved(model, tmp_path_factory.mktemp("chain")), calibration, evaluation


def run(chain, tmp_path, limit, **options):
    path, calibration, evaluation = chain
    given = {"calibration": calibration, "evaluation": evaluation, "config": config(limit, **options), "workers": 1}
    return auto_mixed_precision(path, output=tmp_path / "out", **given)


def test_layers_are_lifted_only_where_wide_misses(chain, tmp_path):
    outcome = run(chain, tmp_path, 2 * WIDE_SCORES)
    assert outcome.met and outcome.manifest.narrowed.lifted == 0
    assert outcome.manifest.scores.wide["l2"] == pytest.approx(WIDE_SCORES, rel=1e-3)


def test_where_wide_misses_some_layers_are_lifted_and_others_narrowed(chain, tmp_path):
    outcome = run(chain, tmp_path, 0.0015)
    assert outcome.met and outcome.manifest.scores.mixed["l2"] <= 0.0015
    used = set(outcome.plan.as_dict().values())
    assert "a16w16" in used and used & {"a8w8", "a16w8"}
    narrowed = outcome.manifest.narrowed
    assert narrowed.lifted == sum(text == "a16w16" for text in outcome.plan.as_dict().values())
    assert narrowed.layers == sum(text == "a8w8" for text in outcome.plan.as_dict().values())


def test_the_report_says_what_was_lifted_and_why(chain, tmp_path):
    outcome = run(chain, tmp_path, 0.0015)
    page = (outcome.folder / "report.html").read_text()
    assert (
        f"{outcome.manifest.narrowed.lifted} layers are lifted to a16w16, for with all at a16w8 it is 0.00387" in page
    )


def test_a_lifted_plan_costs_about_the_least_that_meets_the_target(chain, tmp_path):
    path, calibration, evaluation = chain
    settings, on = config(0.0015, lift=["a16w16"], samples="all"), Runner(Machine(tmp_path / "cache", 1))
    job = QuantizationJob.of(path, calibration, evaluation, None, settings, tmp_path / "all", on.machine.cache)
    layers = prepare(job, on)
    study = baseline(job, layers, calibrate(job, layers, on), on)
    assert study.ladder == tuple(map(Precision.parse, ("a16w16", "a16w8", "a8w8")))
    names, evaluator = study.candidates, PlanEvaluator(study, on)
    plans = [PrecisionPlan(tuple(zip(names, rungs, strict=True))) for rungs in product(study.ladder, repeat=4)]
    least = min(study.cost.total(plan) for plan in plans if evaluator.evaluate(plan).met)
    assert study.cost.total(run(chain, tmp_path, 0.0015, lift=["a16w16"]).plan) <= 1.1 * least


@pytest.mark.parametrize("search", ["linear", "bisect", "greedy", "knapsack"])
def test_every_strategy_comes_down_from_the_rung_that_meets_the_target(chain, tmp_path, search):
    assert run(chain, tmp_path, 0.0015, search=search).met


def test_the_frontier_has_lifted_plans_that_can_be_picked(chain, tmp_path):
    from quant_core.pipeline.pick import pick

    outcome = run(chain, tmp_path, 0.0015, frontier=True)
    picked = pick(outcome, None, 0.0015, tmp_path / "picked", Machine(tmp_path / "cache", 1))
    assert picked.met and picked.manifest.narrowed.lifted


def test_layers_that_are_kept_wide_are_not_lifted(chain, tmp_path):
    with pytest.raises(TargetError, match=r"l2 <= 0\.0001") as caught:
        run(chain, tmp_path, 1e-4, keep_wide=["c2"])
    assert caught.value.outcome.plan.as_dict()["c2"] == "a16w8"


def test_without_a_lift_the_run_ends_at_the_wide_model(chain, tmp_path):
    with pytest.raises(TargetError, match=r"even the wide model \(a16w8\) misses l2 <= 0\.0015"):
        run(chain, tmp_path, 0.0015, lift="none")


def test_what_no_rung_meets_is_said_of_the_highest_and_the_best_is_given_out(chain, tmp_path):
    with pytest.raises(TargetError, match="even the model with its layers at float32, above a16w8, misses") as caught:
        run(chain, tmp_path, 1e-6)
    outcome = caught.value.outcome
    assert set(outcome.plan.as_dict().values()) == {"float32"}
    assert outcome.table("search").num_rows == 3
    best = metric_text("l2", outcome.manifest.scores.mixed["l2"])
    page = (outcome.folder / "report.html").read_text()
    assert f"The best model that was found has L2 distance {best}; no stricter target was met" in page


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        pytest.param({}, ["a16w16", "float32"], id="a16w8"),
        pytest.param({"wide": "a8w8", "narrow": "a8w4"}, ["a16w8", "a16w16", "float32"], id="a8w8"),
        pytest.param({"wide": "au16w8"}, ["au16w16", "float32"], id="unsigned"),
        pytest.param({"wide": "float32"}, [], id="nothing is above float32"),
        pytest.param({"lift": "float16"}, ["float16"], id="said"),
        pytest.param({"lift": "none"}, [], id="none"),
    ],
)
def test_the_rungs_above_wide(options, rungs):
    options = {name: value.split(",") if name in ("narrow", "lift") else value for name, value in options.items()}
    assert [str(one) for one in rungs_above(config(1.0, **options))] == rungs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"lift": ["a8w8"]}, "lift: a8w8 is not wider than a16w8", id="narrower than wide"),
        pytest.param({"lift": ["float32", "a16w16"]}, "lift: a16w16 is not wider than float32", id="out of order"),
        pytest.param({"lift": ["a16w16"], "max_bops": "50%"}, "lift: goes with a target alone", id="with a budget"),
    ],
)
def test_a_lift_that_makes_no_ladder_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        config(1.0, **options)
