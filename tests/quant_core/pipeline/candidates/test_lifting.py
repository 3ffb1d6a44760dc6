import math
from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError, TargetError
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.model.layers import Layer, layer_table
from quant_core.pipeline.candidates.lifting import lifted
from quant_core.pipeline.candidates.rungs import rungs_above
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.plan_search import search_plans
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.steps import baseline, calibrate, prepare
from quant_core.precision import Precision, PrecisionPlan
from quant_core.report.text import metric_text
from quant_core.search.cost import counted_cost
from tests.models import MODELS, samples
from tests.quant_core.pipeline.studies import scores_of
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
        f"{outcome.manifest.narrowed.lifted} layers are lifted to a16w16, since with all at a16w8 it is 0.00387" in page
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


class Powers:
    """A runner for which the square of a plan's L2 is the sum of what its layers add."""

    def __init__(self, added):
        self.added = added

    def fan_out(self, stage, each, *, plan, **others):
        return [scores_of(math.sqrt(sum(self.added[choice] for choice in plan.items()))) for _ in each]


RUNGS = tuple(map(Precision.parse, ("a16w16", "a16w8", "a8w8")))


@pytest.mark.parametrize("layers", range(2, 11))
def test_two_way_ladders_cost_about_the_least_that_brute_force_finds(layers):
    random = np.random.default_rng(layers)
    errors = np.cumsum(random.lognormal((-6, -2, 0), 1.0, (layers, 3)), axis=1)
    names, macs = [f"layer{number}" for number in range(layers)], random.integers(10, 1000, layers)
    listed = [
        Layer(name, "Conv", (0,), ("x",), (name,), ((1, 1),), int(work), 10)
        for name, work in zip(names, macs, strict=True)
    ]
    plans = np.array(list(product(range(3), repeat=layers)), np.int8)
    powers = errors[np.arange(layers), plans].sum(axis=1)
    limit = random.uniform(1.5 * errors[:, 0].sum(), errors[:, 1].sum())  # wide, the rung in the middle, misses

    added = {
        (name, str(rung)): error
        for name, row in zip(names, errors, strict=True)
        for rung, error in zip(RUNGS, row, strict=True)
    }
    settings = config(math.sqrt(limit), evaluations=12, lift=["a16w16"], float_tensors=False)
    job = QuantizationJob(None, None, None, None, settings, None)
    costs, on = {"bops": counted_cost("bops", listed, RUNGS)}, Powers(added)
    baseline = pa.table({"y": np.zeros(8)})
    study = Study(job, layer_table(listed), None, [], baseline, costs, candidates=tuple(names), samples="all")
    PlanEvaluator(study, on).evaluate(PrecisionPlan.uniform(names, settings.wide))
    study = lifted(study, on)
    assert study.ladder == RUNGS and not study.wide.met
    rows = [
        {"layer": name, "precision": str(rung), "loss": error - row[0], "samples": 8}
        for name, row in zip(names, errors, strict=True)
        for rung, error in zip(RUNGS[1:], row[1:], strict=True)
    ]
    search_plans(PlanEvaluator(study, on), pa.Table.from_pylist(sorted(rows, key=lambda row: row["loss"])))

    prices = np.array([[study.cost.prices[name, rung] for rung in RUNGS] for name in names])
    totals = prices[np.arange(layers), plans].sum(axis=1)
    least, most = totals[powers <= limit].min(), prices[:, 0].sum()
    found = study.cost.total(study.best_first()[0].plan)
    assert most - found >= 0.97 * (most - least)


@pytest.mark.parametrize("search", ["linear", "bisect", "greedy", "knapsack"])
def test_every_strategy_comes_down_from_the_rung_that_meets_the_target(chain, tmp_path, search):
    assert run(chain, tmp_path, 0.0015, search=search).met


def test_the_frontier_has_lifted_plans_that_can_be_picked(chain, tmp_path):
    from quant_core.pipeline.picking.pick import pick

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
        run(chain, tmp_path, 1e-6, float_tensors=False)
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
