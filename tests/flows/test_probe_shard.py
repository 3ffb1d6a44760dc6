"""One shard as a flow run of its own."""

from __future__ import annotations

import json

import pytest

from flows.probe_shard import probe_shard
from quant_core.pipeline.stages import STAGES
from tasks import prefect_runner
from tasks.cache.workspace import Workspace
from tasks.executors.plain_arguments import plain, restored
from tasks.executors.pool import REFUSED


@pytest.fixture
def steps(run, monkeypatch, tmp_path):
    """The parameters of the probes and evaluations that a run asks for, and the workspace it has left."""
    asked = []
    made = prefect_runner.PrefectRunner._step

    def noted(self, stage, arguments, label, machine, refresh):
        step = made(self, stage, arguments, label, machine, refresh)
        asked.append(step.parameters | {"stage": step.task.name})
        return step

    monkeypatch.setattr(prefect_runner.PrefectRunner, "_step", noted)
    run()
    return [parameters for parameters in asked if parameters["stage"] in ("probe", "evaluate")]


def shard(parameters, **changed):
    given = {"arguments": plain(parameters["arguments"]), "workspace": parameters["workspace"].url}
    return probe_shard(
        key=parameters["key"], stage=parameters["stage"], **(json.loads(json.dumps(given)) | changed), return_state=True
    )


def test_a_shard_stores_what_the_run_itself_would_under_the_same_key(steps):
    assert {parameters["stage"] for parameters in steps} == {"probe", "evaluate"}
    for parameters in steps:
        results = parameters["workspace"].results
        before = results.load(parameters["key"])
        results.place.remove(parameters["key"])
        assert shard(parameters).is_completed()
        again = results.load(parameters["key"])
        timed = ["seconds"] if "seconds" in before.column_names else []
        assert again.drop_columns(timed) == before.drop_columns(timed)


def test_a_worker_with_another_engine_refuses(steps):
    state = shard(steps[0] | {"key": "probe-0"})
    assert (state.name, state.type.value) == (REFUSED, "FAILED")
    assert "another version of narrowcast" in state.message


def test_a_shard_without_its_tables_refuses(steps, tmp_path):
    state = shard(steps[0], workspace=str(tmp_path / "another"))
    assert state.name == REFUSED
    assert "there is no such result" in state.message


def test_arguments_are_the_same_after_the_journey(steps):
    for step in steps:
        given, results = step["arguments"], Workspace.at(step["workspace"].url).results
        again = restored(STAGES[step["stage"]].function, json.loads(json.dumps(plain(given))), results)
        assert again == given
        assert [type(again[name]) for name in given] == [type(value) for value in given.values()]
