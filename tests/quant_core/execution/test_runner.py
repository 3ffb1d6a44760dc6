"""Calling stages in this process."""

import threading

import pyarrow as pa
import pytest

from quant_core.execution.machine import Machine
from quant_core.execution.progress import Watcher, watched_by
from quant_core.execution.runner import Runner, Stage


def echo(machine, **arguments):
    """A stage that returns what it was called with."""
    return pa.table({name: [value] for name, value in arguments.items()} | {"workers": [machine.workers]})


def stage(name, function=echo, schema=None):
    return Stage(name, function, schema)


@pytest.fixture
def runner(tmp_path):
    return Runner(Machine(tmp_path, workers=3))


def test_a_stage_gets_its_arguments_and_the_whole_machine(runner):
    assert runner.run(stage("echo"), value=1).to_pylist() == [{"value": 1, "workers": 3}]


def test_fan_out_keeps_the_order_and_gives_each_call_one_thread(runner):
    tables = runner.fan_out(stage("echo"), [{"part": part} for part in range(7)], common="c")
    assert [table.to_pylist()[0] for table in tables] == [
        {"common": "c", "part": part, "workers": 1} for part in range(7)
    ]


def test_fan_out_runs_as_many_as_there_are_workers(runner):
    meeting = threading.Barrier(3, timeout=5)

    def meet(machine, part):
        meeting.wait()
        return pa.table({"part": [part]})

    assert len(runner.fan_out(stage("meet", meet), [{"part": part} for part in range(6)])) == 6


def test_what_differs_goes_before_what_is_common(runner):
    assert runner.fan_out(stage("echo"), [{"value": 1}, {}], value=0)[0].to_pylist()[0]["value"] == 1


def test_nothing_to_fan_out(runner):
    assert runner.fan_out(stage("echo"), []) == []


def test_work_and_time_are_accounted(runner):
    runner.run(stage("one"))
    runner.run(stage("two"))
    first = runner.seconds["one"]
    runner.run(stage("one"))
    runner.fan_out(stage("many"), [{}, {}, {}])
    assert list(runner.seconds) == ["one", "two", "many"]
    assert runner.seconds["one"] > first > 0
    assert (runner.computed, runner.cached) == (6, 0)


def test_a_stage_that_fails_is_not_hidden(runner):
    def fail(machine):
        raise ValueError("stage")

    with pytest.raises(ValueError, match="stage"):
        runner.run(stage("fail", fail))


def test_a_watcher_hears_each_stage_begin_and_end(runner):
    class Log(Watcher):
        def __init__(self):
            self.heard = []

        def started(self, stage):
            self.heard.append((stage, "started"))

        def finished(self, stage, seconds, cached):
            self.heard.append((stage, "cached" if cached else "computed"))

    class Remembering(Runner):
        """Has every result already."""

        def fan_out(self, stage, each, /, step="", title="", **common):
            with self._accounted(step or stage.name):
                self.cached += len(each)
            return [pa.table({})] * len(each)

    log = Log()
    with watched_by(log):
        runner.run(stage("new"))
        Remembering(runner.machine).run(stage("old"))
    assert log.heard == [("new", "started"), ("new", "computed"), ("old", "started"), ("old", "cached")]


def test_time_is_accounted_by_the_step_that_asks(runner):
    runner.run(stage("evaluate"), step="baseline")
    runner.fan_out(stage("evaluate"), [{}, {}], step="search")
    assert list(runner.seconds) == ["baseline", "search"]


def test_a_result_of_another_schema_is_refused(runner):
    declared = stage("echo", schema=pa.schema([pa.field("value", pa.string())]))
    with pytest.raises(RuntimeError, match="stage echo: expected value: string, got value: int64"):
        runner.run(declared, value=1)
