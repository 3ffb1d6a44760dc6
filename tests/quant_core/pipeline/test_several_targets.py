"""Runs that must meet several targets, or keep within several budgets, at once."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core import InputError, TargetError, auto_mixed_precision
from quant_core.config import config_from
from quant_core.execution.machine import Machine
from quant_core.pipeline.picking.pick import pick
from quant_core.report.sentences.verdict import verdict
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    model = MODELS["chain"]()
    data = samples(model, 24, 1) | {"labels": np.arange(24) % 4}
    return {"model": saved(model, tmp_path_factory.mktemp("chain")), "calibration": data, "evaluation": data}


def run(chain, tmp_path, first, *also, confidence=None, **options):
    target, *others = [{"metric": name, "limit": limit, "confidence": confidence} for name, limit in (first, *also)]
    config = config_from(**{"target": target, "also": others, "wide": "a16w16", "per_channel": False} | options)
    return auto_mixed_precision(**chain, config=config, output=tmp_path / "out", workers=1)


TIGHT, LOOSE = 0.005, 1.0


@pytest.mark.parametrize(("l2", "kl", "binds"), [(TIGHT, LOOSE, "l2"), (LOOSE, 1e-6, "kl")])
def test_a_plan_meets_all_targets_and_the_one_that_binds_is_named(chain, tmp_path, l2, kl, binds):
    outcome = run(chain, tmp_path, ("l2", l2), ("kl", kl))
    target, scores = outcome.manifest.target, outcome.manifest.scores.mixed
    assert outcome.met and scores["l2"] <= l2 and scores["kl"] <= kl
    assert target.binds == binds and [(one.metric, one.met) for one in target.also] == [("kl", True)]
    assert 0 < outcome.manifest.narrowed.layers < 4
    assert "the tightest is" in (outcome.folder / "report.html").read_text()


def test_each_target_has_a_bound_of_its_own(chain, tmp_path):
    outcome = run(chain, tmp_path, ("l2", 0.02), ("kl", 1e-3), confidence=0.9)
    target, scores = outcome.manifest.target, outcome.manifest.scores.mixed
    assert scores["l2"] < target.bound <= 0.02
    assert scores["kl"] < target.also[0].bound <= 1e-3


def test_a_miss_says_which_target_it_is(chain, tmp_path):
    with pytest.raises(TargetError, match="misses kl <= 1e-15: it scores"):
        run(chain, tmp_path, ("l2", LOOSE), ("kl", 1e-15), lift="none")


def test_a_plan_is_within_all_budgets_and_each_is_told(chain, tmp_path):
    outcome = run(chain, tmp_path, ("l2", None), max_bops=0.6, max_bytes=0.6, narrow=("a8w8", "a8w4"), frontier=True)
    bops, size = outcome.manifest.budgets
    assert outcome.met and (bops.cost, size.cost) == ("bops", "bytes") and max(bops.share, size.share) <= 0.6
    assert size.spent == outcome.manifest.costs.of("bytes").mixed <= size.limit
    said = verdict(outcome.manifest)
    assert "the bit operations are" in said and "; the weights take" in said and said.count("within the budget of") == 2
    page = outcome.report.read_text()
    assert "Within budget" in page and "--max-bops 0.6" in page and "--max-bytes 0.6" in page
    machine = Machine(tmp_path / "cache")
    picked = pick(outcome, None, None, tmp_path / "picked", machine, {"max_bops": 0.6, "max_bytes": 0.6})
    assert picked.plan == outcome.plan and picked.manifest.budgets == outcome.manifest.budgets
    with pytest.raises(TargetError, match=r"no plan on the frontier is within bops <= 0.6 .* and bytes <= 1B"):
        pick(outcome, None, None, tmp_path / "none", machine, {"max_bops": 0.6, "max_bytes": "1B"})


def test_budgets_that_no_plan_keeps_together_are_told_with_what_the_nearest_costs(chain, tmp_path):
    with pytest.raises(
        TargetError, match=r"no plan is within bops <= 1 .* and bytes <= 1B: the plan nearest to that"
    ) as e:
        run(chain, tmp_path, ("l2", None), max_bops=1, max_bytes="1B")
    assert not e.value.outcome.met and [one.met for one in e.value.outcome.manifest.budgets] == [True, False]


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ([{"metric": "l2", "limit": 2.0}], "also: each metric can have one target"),
        ([{"metric": "kl"}], "also: every one of several targets needs a limit"),
        ([{"metric": "kl", "limit": 1.0, "confidence": 0.9}], "also: several targets share one confidence"),
    ],
)
def test_targets_that_do_not_go_together_are_refused(also, message):
    with pytest.raises(InputError, match=message):
        config_from(target={"metric": "l2", "limit": 1.0}, also=also)
