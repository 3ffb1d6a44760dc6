"""Budgets: how they are written, and what a run makes of one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from quant_core import InputError, TargetError, auto_mixed_precision
from quant_core.budget import Amount
from quant_core.config import MixedPrecisionConfig, config_from
from quant_core.report.sentences.verdict import headline, verdict
from quant_core.results.outcome import open_outcome
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

L2 = {"metric": "l2", "limit": 0.05}


@pytest.mark.parametrize(
    ("cost", "text", "amount", "wide"),
    [
        ("bops", 0.4, 40.0, 100.0),
        ("bops", "40%", 40.0, 100.0),
        ("bytes", "0.25", 25.0, 100.0),
        ("bytes", "300kB", 300_000.0, 1.0),
        ("bytes", "1.5 MiB", 1.5 * 2**20, 1.0),
        ("bytes", "12B", 12.0, 1.0),
        ("latency", "2.5ms", 2.5, 1.0),
        ("latency", "800us", 0.8, 1.0),
        ("latency", "1e-3s", 1.0, 1.0),
    ],
)
def test_an_amount_is_a_share_or_has_a_unit_and_reads_back(cost, text, amount, wide):
    parsed = Amount.parse(cost, text)
    assert parsed.of(wide) == pytest.approx(amount)
    assert Amount.parse(cost, str(parsed)) == parsed


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"max_bops": 1.5}, "max_bops: 1.5 is not a share of the wide model's up to 1 (0.4 or 40%)"),
        ({"max_bops": "3GB"}, "max_bops: '3GB' is not a share"),
        ({"max_bytes": 300_000}, "max_bytes: 300000 is not a share of the wide model's up to 1 (0.4) or an amount "),
        ({"max_bytes": "30 potatoes"}, "max_bytes: '30 potatoes' is not a share"),
        ({"max_latency": 0}, "max_latency: 0 is not a share"),
        ({"max_latency": "nan"}, "max_latency: 'nan' is not a share"),
        ({"max_bops": -0.5}, "max_bops: -0.5 is not a share"),
        ({"max_bops": True}, "max_bops: True is not a share"),
        (
            {"max_bops": 0.4, "max_bytes": 0.5, "cost": "latency"},
            "cost: with max_bops and max_bytes it must be 'bops' or 'bytes', not 'latency'; leave it out",
        ),
        ({"max_bytes": 0.4, "cost": "bops"}, "cost: with max_bytes it must be 'bytes', not 'bops'; leave it out"),
        ({"target": {"metric": "kl"}}, "target: give it a limit, or give a budget: max_bops, max_bytes, max_latency"),
        (
            {"max_bops": 0.4, "target": {"metric": "l2", "confidence": 0.9}},
            "target: a confidence needs a limit to meet",
        ),
    ],
)
def test_what_is_wrong_with_a_budget_is_said_in_one_line(options, line):
    with pytest.raises(InputError) as caught:
        config_from(**options)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_a_budget_says_what_costs_and_reads_back_from_json():
    config = config_from(max_bytes="300kB")
    assert (config.cost, config.target.metric, config.target.limit) == ("bytes", "l2", None)
    assert MixedPrecisionConfig.model_validate_json(config.model_dump_json()) == config
    assert MixedPrecisionConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Runs a small model with some options."""
    folder = tmp_path_factory.mktemp("chain")
    model, calibration = MODELS["chain"](), samples(MODELS["chain"](), 12, 1)
    path, numbers = saved(model, folder), iter(range(1000))

    def run(**options):
        return auto_mixed_precision(
            path,
            calibration=calibration,
            evaluation={name: array[:8] for name, array in calibration.items()},
            config=config_from(**{"wide": "a16w16"} | options),
            output=folder / str(next(numbers)),
            cache=folder / "cache",
            workers=1,
        )

    return run


@pytest.mark.parametrize("search", ["greedy", "knapsack", "bisect", "linear"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_model_is_within_its_budget_and_its_manifest_and_report_say_so(chain, search, share):
    outcome = chain(max_bops=share, search=search)
    budget, found = outcome.manifest.budget, outcome.manifest.narrowed
    assert outcome.met and budget.met and found.bops_ratio <= share
    assert budget.share == pytest.approx(found.bops_ratio)
    assert budget.spent == outcome.manifest.costs.of("bops").mixed <= budget.limit
    assert headline(outcome.manifest) == "Within budget"
    assert f"within the budget of {100 * share:.1f}%" in verdict(outcome.manifest)
    page = outcome.report.read_text()
    assert "Within budget" in page and f"--max-bops {share}" in page
    assert open_outcome(outcome.folder).met


def test_of_all_plans_tried_within_the_budget_the_best_is_shipped(chain):
    outcome = chain(max_bops=0.5)
    rows = outcome.table("search").to_pylist()
    limit = outcome.manifest.budget.limit
    assert (
        [row["accepted"] for row in rows]
        == [row["cost"] <= limit for row in rows]
        == [False] + [True] * (len(rows) - 1)
    )
    best = min((row for row in rows if row["accepted"]), key=lambda row: row["score"])
    assert json.loads(best["precisions"]) == outcome.plan.as_dict()
    assert len(rows) <= 1 + 1 + 8


def test_a_wider_budget_is_never_worse(chain):
    scores = [chain(max_bops=share).manifest.scores.mixed["l2"] for share in (0.3, 0.5, 0.8, 1.0)]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]


def test_where_the_wide_model_is_within_the_budget_it_is_the_model(chain):
    outcome = chain(max_bops=1)
    assert outcome.met and outcome.manifest.narrowed.layers == 0
    assert outcome.manifest.work.evaluations == 1
    assert "the wide model is within the budget" in outcome.report.read_text()


def test_a_budget_that_no_plan_is_within_says_the_least_there_is_and_the_cheapest_model_is_written(chain):
    with pytest.raises(TargetError) as caught:
        chain(max_bops=0.2)
    assert str(caught.value).startswith("no plan is within bops <= 0.2 of the wide model: the least that the model can")
    assert str(caught.value).endswith("bit operations, 0.25 of the wide model's")
    outcome = caught.value.outcome
    assert not outcome.met and outcome.model.exists() and not open_outcome(outcome.folder).met
    assert set(outcome.plan.as_dict().values()) == {"a8w8"}
    assert (headline(outcome.manifest), outcome.manifest.work.probes) == ("Over budget", 0)
    assert "no plan is within the budget" in outcome.report.read_text()


def test_an_amount_of_bytes_is_that_of_the_layers_weights(chain):
    wide = chain(max_bytes=1).manifest.costs.of("bytes").wide
    outcome = chain(max_bytes=f"{0.7 * wide:.0f}B", narrow=["a8w8", "a8w4"])
    weights = outcome.manifest.costs.of("bytes").mixed
    assert 0.5 * wide < weights <= round(0.7 * wide)
    assert f"{weights:.0f} B, within the budget of {0.7 * wide:.0f} B" in verdict(outcome.manifest).replace(" kB", "kB")


def test_a_budget_of_a_devices_time(chain, tmp_path):
    times = [
        f"{name},{precision},{time}"
        for name in ("c1", "c2", "c3", "fc")
        for precision, time in (("a16w16", 2), ("a8w8", 1))
    ]
    (tmp_path / "device.csv").write_text("\n".join(["layer,precision,milliseconds", *times]))
    outcome = chain(max_latency="6.5ms", device_costs=str(tmp_path / "device.csv"))
    assert outcome.manifest.costs.of("latency").mixed == 6 == 8 - outcome.manifest.narrowed.layers


def test_with_a_target_too_the_best_within_the_budget_decides(chain):
    best = chain(max_bops=0.5)
    score = best.manifest.scores.mixed["l2"]
    both = chain(max_bops=0.5, target={"metric": "l2", "limit": score * 1.01})
    assert both.met and both.plan == best.plan and headline(both.manifest) == "Target met"
    with pytest.raises(
        TargetError, match=r"the best plan found within bops <= 0.5 of the wide model misses l2 <= "
    ) as it:
        chain(max_bops=0.5, target={"metric": "l2", "limit": score * 0.99})
    assert it.value.outcome.plan == best.plan and headline(it.value.outcome.manifest) == "Target missed"


@pytest.mark.parametrize("metric", ["kl", "sqnr_db", "cosine"])
def test_what_is_best_may_be_measured_by_any_metric(chain, metric):
    outcome = chain(max_bops=0.5, target={"metric": metric})
    rows = [row["score"] for row in outcome.table("search").to_pylist() if row["accepted"]]
    assert outcome.manifest.scores.mixed[metric] == (max if metric == "sqnr_db" else min)(rows)


def test_a_frontier_may_be_kept_within_a_budget_too(chain):
    outcome = chain(max_bops=0.5, frontier=True)
    frontier = outcome.table("frontier").to_pylist()
    assert outcome.manifest.narrowed.bops_ratio <= 0.5
    assert min(row["cost_ratio"] for row in frontier) < 0.5 < max(row["cost_ratio"] for row in frontier)


def test_scores_are_compared_on_all_samples(chain):
    assert set(chain(max_bops=0.5).table("search").column("samples").to_pylist()) == {8}
    assert all(math.isfinite(score) for score in np.array(chain(max_bops=0.5).table("search").column("score")))
