"""Calling stages in this process."""

import threading

import pyarrow as pa
import pytest

from quant_core.execution.machine import Machine
from quant_core.execution.progress import Watcher, watched_by
from quant_core.execution.runner import Stages


def echo(machine, **arguments):
    """A stage that returns what it was called with."""
    return pa.table({name: [value] for name, value in arguments.items()} | {"workers": [machine.workers]})


@pytest.fixture
def stages(tmp_path):
    return Stages(Machine(tmp_path, workers=3))


def test_a_stage_gets_its_arguments_and_the_whole_machine(stages):
    assert stages.run("echo", echo, value=1).to_pylist() == [{"value": 1, "workers": 3}]


def test_fan_out_keeps_the_order_and_gives_each_call_one_thread(stages):
    tables = stages.fan_out("echo", echo, [{"part": part} for part in range(7)], common="c")
    assert [table.to_pylist()[0] for table in tables] == [
        {"common": "c", "part": part, "workers": 1} for part in range(7)
    ]


def test_fan_out_runs_as_many_as_there_are_workers(stages):
    meeting = threading.Barrier(3, timeout=5)

    def meet(machine, part):
        meeting.wait()
        return pa.table({"part": [part]})

    assert len(stages.fan_out("meet", meet, [{"part": part} for part in range(6)])) == 6


def test_what_differs_goes_before_what_is_common(stages):
    assert stages.fan_out("echo", echo, [{"value": 1}, {}], value=0)[0].to_pylist()[0]["value"] == 1


def test_nothing_to_fan_out(stages):
    assert stages.fan_out("echo", echo, []) == []


def test_work_and_time_are_accounted(stages):
    stages.run("one", echo)
    stages.run("two", echo)
    first = stages.seconds["one"]
    stages.run("one", echo)
    stages.fan_out("many", echo, [{}, {}, {}])
    assert list(stages.seconds) == ["one", "two", "many"]
    assert stages.seconds["one"] > first > 0
    assert (stages.computed, stages.cached) == (6, 0)


def test_a_stage_that_fails_is_not_hidden(stages):
    def fail(machine):
        raise ValueError("stage")

    with pytest.raises(ValueError, match="stage"):
        stages.run("fail", fail)


def test_a_watcher_hears_each_stage_begin_and_end(stages):
    class Log(Watcher):
        def __init__(self):
            self.heard = []

        def started(self, stage):
            self.heard.append((stage, "started"))

        def finished(self, stage, seconds, cached):
            self.heard.append((stage, "cached" if cached else "computed"))

    class Remembering(Stages):
        """Has every result already."""

        def _call(self, calls, valid=None):
            self.cached += len(calls)
            return [pa.table({})] * len(calls)

    log = Log()
    with watched_by(log):
        stages.run("new", echo)
        Remembering(stages.machine).run("old", echo)
    assert log.heard == [("new", "started"), ("new", "computed"), ("old", "started"), ("old", "cached")]
