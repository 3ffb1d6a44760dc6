"""What a study makes of its trials: which is the best, what a plan may cost, how sure it must be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from quant_core.execution.progress import Watcher, watched_by
from quant_core.model.layers import layer_table
from tests.quant_core.pipeline.studies import LAYERS, plan_of, study_of, trial_of

ALL_NARROW = plan_of("a8w8", "a8w8", "a8w8")
ONE_NARROW = plan_of("a8w8", "a16w8", "a16w8")
TWO_NARROW = plan_of("a8w8", "a8w8", "a16w8")


def test_without_a_budget_the_cheapest_that_met_the_target_comes_first():
    study = study_of().study
    for plan, met in [(ONE_NARROW, True), (TWO_NARROW, True), (ALL_NARROW, False)]:
        study.add(trial_of(plan, 0.5, met))
    assert [trial.plan for trial in study.best_first()] == [TWO_NARROW, ONE_NARROW, study.wide.plan]


def test_of_plans_that_cost_the_same_the_one_with_the_fewest_tensors_in_float_comes_first():
    study = study_of().study
    more, fewer = (TWO_NARROW.with_float(names) for names in (["a", "b"], ["a"]))
    study.add(trial_of(more, 0.1, True))
    study.add(trial_of(fewer, 0.5, True))
    assert [trial.plan for trial in study.best_first()] == [fewer, more, study.wide.plan]


def test_within_a_budget_the_best_score_comes_first_and_those_that_met_before_the_others():
    study = study_of(max_bops=0.9).study
    for plan, value, met in [(TWO_NARROW, 0.6, True), (ALL_NARROW, 0.5, False), (ONE_NARROW, 0.4, True)]:
        study.add(trial_of(plan, value, met))
    assert not study.affordable(ONE_NARROW)  # 100 of 700 MACs narrowed leave 93%
    assert [trial.plan for trial in study.best_first()] == [TWO_NARROW, ALL_NARROW]


def test_a_score_that_is_no_number_comes_last_within_a_budget():
    study = study_of(max_bops=0.9).study
    study.add(trial_of(TWO_NARROW, math.nan, False))
    study.add(trial_of(ALL_NARROW, 3.0, False))
    assert [trial.plan for trial in study.best_first()] == [ALL_NARROW, TWO_NARROW]


def test_where_nothing_is_within_the_budget_the_cheapest_is_the_best():
    study = study_of(max_bops=0.4).study
    study.add(trial_of(TWO_NARROW, 0.2, True))
    assert [trial.plan for trial in study.best_first()] == [TWO_NARROW]


@pytest.mark.parametrize(("share", "affordable"), [(1.0, True), (0.8, True), (0.7, False)])
def test_a_plan_is_affordable_up_to_the_share_of_the_wide_plan(share, affordable):
    assert study_of(max_bops=share).study.affordable(TWO_NARROW) is affordable  # (50 + 100 + 400) / 700 = 0.786


def test_what_is_measured_from_a_file_takes_the_place_of_what_was_simulated():
    study = study_of().study
    study.add(trial_of(ONE_NARROW, 0.5, True))
    study.add_or_replace(trial_of(ONE_NARROW, 1.5, False))
    assert [(trial.plan, trial.score.value) for trial in study.trials[1:]] == [(ONE_NARROW, 1.5)]
    study.add_or_replace(trial_of(ALL_NARROW, 0.3, True))
    assert [trial.plan for trial in study.trials[1:]] == [ONE_NARROW, ALL_NARROW]


def test_the_nearest_trial_is_the_one_that_differs_in_the_fewest_layers_and_was_scored_on_all_samples():
    study = study_of().study
    study.add(trial_of(ALL_NARROW, 0.5, True))
    partial = trial_of(TWO_NARROW, 0.5, True)
    study.add(type(partial)(partial.plan, partial.scores.slice(0, 3), partial.score, True, 0.5, None))
    assert study.nearest_trial(TWO_NARROW).plan == ALL_NARROW
    assert study.nearest_trial(ONE_NARROW).plan == study.wide.plan


def test_a_confidence_is_spent_look_by_look():
    assert study_of().study.next_alpha() is None
    study = study_of(confidence=0.95).study
    first = study.next_alpha()
    study.add(trial_of(ONE_NARROW, 0.5, True))
    assert 0 < study.next_alpha() < first < 0.05


def test_the_table_has_a_row_a_trial_in_order():
    tried = study_of().study
    tried.add(trial_of(TWO_NARROW, 0.5, True))
    rows = replace(tried, layers=layer_table(LAYERS)).table().to_pylist()
    assert [row["step"] for row in rows] == [0, 1]
    assert [row["layers_narrowed"] for row in rows] == [0, 2]
    assert rows[1]["macs_share"] == pytest.approx(300 / 700)
    assert [row["accepted"] for row in rows] == [True, True]


def test_whoever_watches_hears_of_each_trial_whether_it_is_accepted():
    heard = []

    class Listener(Watcher):
        def tried(self, plan, score, accepted):
            heard.append((plan, score, accepted))

    study = study_of(max_bops=0.8).study
    with watched_by(Listener()):
        study.add(trial_of(ONE_NARROW, 0.5, True))
        study.add(trial_of(TWO_NARROW, 0.6, True))
    assert heard == [("1 of 3 layers narrowed", 0.5, False), ("2 of 3 layers narrowed", 0.6, True)]
