"""Which model is begun beside the one that runs, and which run has what was computed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flows.watch import next_model
from flows.watch.next_model import NextModel
from tasks import head_start
from tasks.cache.workspace import Workspace
from tasks.head_start import HeadStart


@pytest.fixture
def begun(monkeypatch):
    """The head starts that were begun, by model."""
    found = {}

    def begin(job, workspace, workers):
        found[job.model] = HeadStart()
        return found[job.model]

    monkeypatch.setattr(next_model, "begin_head_start", begin)
    return found


def job(name):
    return SimpleNamespace(model=name, calibration="c", evaluation="e", holdout=None, config=None)


def ahead(tmp_path, runner=None):
    return NextModel(Workspace.at(str(tmp_path)), 1, runner)


def test_a_run_has_what_was_computed_of_its_model(tmp_path, begun):
    one, two, three = map(job, ("one", "two", "three"))
    with ahead(tmp_path) as models:
        with models.begun_beside(one, two):
            assert list(begun) == ["two"] and head_start._current.get() not in begun.values()
        with models.begun_beside(two, three):
            assert list(begun) == ["two", "three"] and head_start._current.get() is begun["two"]
        assert begun["two"].is_over and not begun["three"].is_over
    assert begun["three"].is_over, "the scan has ended before its run"


def test_what_was_computed_of_a_model_that_does_not_run_is_let_go(tmp_path, begun):
    with ahead(tmp_path) as models:
        with models.begun_beside(job("one"), job("two")):
            pass
        with models.begun_beside(job("three"), None):
            assert begun["two"].is_over and head_start._current.get() is not begun["two"]


@pytest.mark.parametrize("runner", ["process", "dask", "pool"])
def test_nothing_is_computed_here_where_it_runs_elsewhere(tmp_path, begun, runner):
    with ahead(tmp_path, runner) as models, models.begun_beside(job("one"), job("two")):
        assert not begun
