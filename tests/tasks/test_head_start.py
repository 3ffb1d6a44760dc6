"""Steps that are computed before their tasks ask for them."""

from __future__ import annotations

from contextvars import copy_context
from threading import Event, Thread

import numpy as np
import onnx
import pyarrow as pa
import pytest

from quant_core.config import config_from
from quant_core.execution.machine import Machine
from quant_core.execution.progress import Watcher, watched_by
from quant_core.execution.runner import Runner
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import EVALUATE
from quant_core.pipeline.steps import baseline, calibrate, prepare
from tasks import head_start as head_starts
from tasks.cache import keys
from tasks.cache.keys import step_key, with_key
from tasks.cache.workspace import Workspace
from tasks.flow_runner import runner_of_flow
from tasks.head_start import EndOfHeadStartError, HeadStart, begun_result, end_head_start, head_start, seconds_ahead
from tests.models import MODELS, samples

TABLE = pa.table({"number": [1]})


class Tasks(Runner):
    """Takes results as tasks do, and computes and stores those that were not begun."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace.machine(1))
        self.store = workspace.results
        self.taken: list[str] = []
        self.made: list[str] = []

    def fan_out(self, stage, each, /, step="", title="", **common):
        return [self.result(stage, {**common, **arguments}) for arguments in each]

    def result(self, stage, arguments):
        key = step_key(stage, arguments)
        begun = begun_result(key)
        (self.made if begun is None else self.taken).append(stage.name)
        table = with_key(stage(arguments, self.machine), key) if begun is None else begun
        self.store.put(key, table)
        return table


@pytest.fixture
def workspace(tmp_path):
    found = Workspace.at(str(tmp_path / "workspace"))
    found.check()
    return found


@pytest.fixture
def job(tmp_path, workspace, monkeypatch):
    model = MODELS["chain"]()
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", **samples(model, 8))
    data = str(tmp_path / "data.npz")
    config = config_from(target={"metric": "l2", "limit": 0.5})
    monkeypatch.setattr(keys, "kept_code_digest", lambda module: module)  # it takes long to find
    return QuantizationJob.of(tmp_path / "model.onnx", data, data, None, config, tmp_path / "out", workspace.cache)


class AtOnce:
    """A thread that has ended when it has started."""

    def __init__(self, target, args):
        self.start = lambda: target(*args)


def first_steps(job, on):
    """Return the calibration and the scores of the wide model."""
    layers = prepare(job, on)
    study = baseline(job, layers, calibrate(job, layers, on), on)
    return study.calibration, study.wide.scores


def test_steps_are_ready_for_their_tasks_up_to_one_that_is_for_its_task_only(job, workspace, monkeypatch, tmp_path):
    monkeypatch.setattr(head_starts, "Thread", AtOnce)
    monkeypatch.setattr(head_starts, "ALONE", (EVALUATE,))
    on, again = Tasks(workspace), Tasks(workspace)
    with head_start(job, workspace, 2):
        found = first_steps(job, on)
        assert seconds_ahead() > 0
        assert seconds_ahead() == 0
    assert (on.taken, on.made) == (["prepare", "calibrate", "baseline"], ["evaluate"])
    assert found == first_steps(job, Runner(Machine(tmp_path)))
    with head_start(job, workspace, 2):
        first_steps(job, again)
    assert not again.taken, "all was stored"


def test_a_model_that_was_prepared_before_is_not_prepared_again(job, workspace, monkeypatch):
    monkeypatch.setattr(head_starts, "Thread", AtOnce)
    layers = prepare(job, Runner(workspace.machine(1)))
    on = Tasks(workspace)
    with head_start(job, workspace, 1, (layers, 7.5)):
        assert prepare(job, on).equals(layers)
        assert seconds_ahead() == 7.5
    assert on.taken == ["prepare"]


def test_a_head_start_ends_when_the_flow_is_there(job, workspace, monkeypatch):
    monkeypatch.setattr(head_starts, "_compute", lambda job, on: None)
    end_head_start()  # of none
    with head_start(job, workspace, 1):
        begun = head_starts._current.get()
        assert begun.begin(["step"])
        runner_of_flow(workspace.url, 1)
        with pytest.raises(EndOfHeadStartError):
            begun.begin(["another"])


def test_a_step_is_begun_by_the_task_or_by_the_head_start():
    start = HeadStart()
    assert start.take("the task's") is None
    with pytest.raises(EndOfHeadStartError):
        start.begin(["another", "the task's"])
    (begun,) = start.begin(["another"])
    begun.set_result(head_starts._Computed(TABLE, 0.0, 1.5))
    assert start.take("another") is TABLE
    assert start.take_seconds() == 1.5
    assert start.take_seconds() == 0
    assert start.take("another") is None  # a task that is tried once more
    start.end()
    with pytest.raises(EndOfHeadStartError):
        start.begin(["a third"])


@pytest.mark.parametrize("end", [lambda begun: begun.set_exception(MemoryError()), lambda begun: begun.cancel()])
def test_a_step_that_a_head_start_could_not_compute_is_left_to_its_task(end):
    start = HeadStart()
    (begun,) = start.begin(["step"])
    end(begun)
    assert start.take("step") is None


def test_a_head_start_that_fails_hands_over_nothing(job, workspace, monkeypatch):
    def fails(*given, **named):
        raise MemoryError

    monkeypatch.setattr(head_starts, "Thread", AtOnce)
    monkeypatch.setattr(head_starts.Stage, "__call__", fails)
    with head_start(job, workspace, 2):
        monkeypatch.undo()
        on = Tasks(workspace)
        first_steps(job, on)
    assert not on.taken
    assert seconds_ahead() == 0


class Listener(Watcher):
    """Adds up what it hears."""

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}
        self.has_heard = Event()

    def expects(self, stage, units):
        self.heard["expects"] = self.heard.get("expects", 0) + units

    def advanced(self, stage, units):
        self.heard["advanced"] = self.heard.get("advanced", 0) + units
        self.has_heard.set()


def test_how_far_a_step_is_is_told_from_when_its_task_waits_for_it():
    start, listener = HeadStart(), Listener()
    start.begin(["first"])
    start.progress.expects("prepare", 5)
    (begun,) = start.begin(["second"])
    start.progress.expects("calibrate", 100)
    start.progress.advanced("calibrate", 30)
    waiting = Thread(target=copy_context().run, args=(taken_with, start, listener))
    waiting.start()
    listener.has_heard.wait()
    start.progress.advanced("calibrate", 70)
    begun.set_result(head_starts._Computed(TABLE, 0.0, 1.0))
    waiting.join()
    assert listener.heard == {"expects": 100, "advanced": 100}


def taken_with(start, listener):
    with watched_by(listener):
        start.take("second")
