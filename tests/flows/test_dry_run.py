"""`narrowcast auto --dry-run`: what it says is stored and left to do, and that it does nothing."""

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from flows import command_line

MIXED = 0.005
"""A limit that the job's model misses with all layers narrow, and meets with some."""


@pytest.fixture
def told(job, tmp_path, monkeypatch, capfd):
    """Runs `narrowcast auto` on the job with a target; what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NARROWCAST_WORKSPACE", str(tmp_path / "workspace"))

    def ran(limit: float, *more: str) -> str:
        capfd.readouterr()
        given = [job["model"], "--calibration", job["calibration"], "--evaluation", job["evaluation"], "--out", "out"]
        given += ["--wide", "a16w16", "--no-per-channel"]
        with (
            patch.dict(os.environ),
            patch.object(sys, "argv", ["narrowcast", "auto", *given, "--max-l2", str(limit), *more]),
        ):
            try:
                command_line.main()
            except SystemExit as stop:
                assert stop.code == 0, capfd.readouterr()
        return capfd.readouterr().out

    return ran


def stages(found):
    return [stage["stage"] for stage in found["ahead"]]


def test_with_nothing_stored_all_is_to_do_and_nothing_is_done(told, tmp_path):
    found = json.loads(told(MIXED, "--dry-run", "--json"))
    assert (found["cached"], found["stage"], found["missing"]) == ({}, "prepare", 1)
    assert stages(found) == ["prepare", "calibrate", "baseline", "probe", "search", "export", "verify"]
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["ahead"]))
    assert all(stage["seconds"] > 0 for stage in found["ahead"])
    assert not Path("out").exists()
    assert not list((tmp_path / "workspace").glob("results/*"))


def test_what_an_earlier_run_did_is_not_to_do(told):
    told(MIXED, "--json")
    assert "to do: nothing" in told(MIXED, "--dry-run")
    stricter = json.loads(told(0.9 * MIXED, "--dry-run", "--json"))
    assert stricter["cached"].keys() >= {"prepare", "calibrate", "baseline", "probe"}
    assert stages(stricter)[-2:] == ["export", "verify"] or stricter["stage"] is None
    assert not {"prepare", "calibrate", "probe"} & set(stages(stricter))
    missed = json.loads(told(1e-9, "--lift", "none", "--no-float-tensors", "--dry-run", "--json"))
    assert (missed["stage"], stages(missed)) == ("export", ["export", "verify"])
    other_weights = json.loads(told(MIXED, "--per-channel", "--dry-run", "--json"))
    assert other_weights["stage"] == "baseline"
    assert "probe" in stages(other_weights)


def test_a_frontier_takes_more_plans(told):
    assert "at most 20 plans" in told(MIXED, "--dry-run")
    assert "at most 37 plans" in told(MIXED, "--frontier", "--dry-run")


def test_lifted_layers_are_foretold_where_there_are_rungs_above_wide(told):
    found = told(MIXED, "--wide", "a16w8", "--dry-run")
    assert "4 probes on 8 samples, 12 if wide misses" in found and "at most 20 plans on 8 samples, 23 if" in found
    assert "if wide misses" not in told(MIXED, "--lift", "none", "--dry-run")


def test_blocks_take_fewer_probes_than_is_foretold(told):
    assert "at most 4 probes on 8 samples" in told(MIXED, "--blocks", "graph", "--dry-run")


def test_weights_that_are_rounded_on_data_are_not_foretold(told):
    assert "time unknown" in told(MIXED, "--narrow", "a8w8,a8w4", "--dry-run")


def test_within_a_budget_the_search_tries_as_many_plans_as_it_may_go_on_for_and_one_more(told):
    found = json.loads(told(MIXED, "--max-bops", "0.5", "--evaluations", "3", "--dry-run", "--json"))
    assert [stage["work"] for stage in found["ahead"] if stage["stage"] == "search"] == ["at most 4 plans on 8 samples"]
