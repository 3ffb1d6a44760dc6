"""Steps on processes that may die, with a task runner of the test's own."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.executors import executor
from tasks.executors.executor import Step, TaskExecutor


def note(folder, name, wait=0.0):
    """Leave a file that tells of this call; return the name."""
    time.sleep(wait)
    count = len(list(Path(folder).glob(f"{name} *")))
    (Path(folder) / f"{name} {count}").touch()
    return name


def die(folder, name, times):
    """End the whole process, so many times; then return the name."""
    if len(list(Path(folder).glob(f"{name} *"))) < times:
        note(folder, name)
        os._exit(1)
    return note(folder, name)


def fail(folder, name):
    note(folder, name)
    raise ValueError("a bug")


class ProcessRunner:
    """Runs tasks on two real processes, as Prefect's runner does, but without flow and server."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("start")
        self.processes = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
        return self

    def __exit__(self, *raised):
        self.log.append("end")
        self.processes.shutdown()

    def submit(self, task, parameters):
        found = SimpleNamespace(name=parameters.pop("state", "Completed"))
        return SimpleNamespace(result=self.processes.submit(task, **parameters).result, state=found)


@pytest.fixture
def fleet(monkeypatch):
    """An executor, with what it said and when its runner was started and ended."""
    warned, log = [], []
    monkeypatch.setattr(executor, "warn", warned.append)
    made = TaskExecutor(lambda: ProcessRunner(log))
    made.warned, made.log = warned, log
    yield made
    made.close()


def step(function, folder, name, **given):
    return Step(function, {"folder": str(folder), "name": name, **given}, stored=False)


def calls(folder):
    return sorted(path.name.rpartition(" ")[0] for path in folder.iterdir())


def test_results_come_in_the_order_of_the_steps(fleet, tmp_path):
    steps = [step(note, tmp_path, name, wait=wait) for name, wait in {"slow": 0.5, "a": 0.0, "b": 0.0}.items()]
    assert [done.table for done in fleet.run(steps)] == ["slow", "a", "b"]
    assert (calls(tmp_path), fleet.warned) == (["a", "b", "slow"], [])


def test_what_was_there_already_is_told_from_what_was_computed(fleet, tmp_path):
    steps = [step(note, tmp_path, "a", state="Cached"), step(note, tmp_path, "b")]
    assert [done.cached for done in fleet.run(steps)] == [True, False]


@pytest.mark.parametrize("deaths", [1, 2])
def test_steps_run_again_when_a_process_dies(fleet, tmp_path, deaths):
    steps = [step(die, tmp_path, "dies", times=deaths), step(note, tmp_path, "lives")]
    assert [done.table for done in fleet.run(steps)] == ["dies", "lives"]
    assert fleet.warned == ["a worker process died; what it had not finished is run again"] * deaths
    assert calls(tmp_path).count("dies") == deaths + 1
    assert fleet.log == [*["start", "end"] * deaths, "start"]


def test_a_step_that_kills_its_process_is_not_run_for_ever(fleet, tmp_path):
    with pytest.raises(BrokenProcessPool):
        fleet.run([step(die, tmp_path, "dies", times=100)])
    assert calls(tmp_path) == ["dies"] * 3
    assert len(fleet.warned) == 2


def test_a_step_that_fails_is_not_run_again(fleet, tmp_path):
    with pytest.raises(ValueError, match="a bug"):
        fleet.run([step(fail, tmp_path, "fails")])
    assert (calls(tmp_path), fleet.warned) == (["fails"], [])


def test_no_steps_start_no_runner(fleet):
    assert fleet.run([]) == []
    fleet.close()
    assert fleet.log == []


def test_one_runner_serves_until_it_is_closed(fleet, tmp_path):
    for name in "ab":
        fleet.run([step(note, tmp_path, name)])
    assert fleet.log == ["start"]
    fleet.close()
    fleet.close()
    fleet.run([step(note, tmp_path, "c")])
    assert fleet.log == ["start", "end", "start"]
