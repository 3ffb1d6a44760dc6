"""A step that fails within a run: what can pass is tried again, what cannot ends the run, and nothing is lost."""

from __future__ import annotations

import errno
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from quant_core.errors import InputError
from quant_core.execution.progress import watched_by
from quant_core.model import sessions
from quant_core.probing import probe
from tests.watching import Said


class Failing:
    """Raises the errors in turn, then does what it stands for."""

    def __init__(self, whole, *errors):
        self.whole, self.errors, self.calls = whole, list(errors), 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.whole(*arguments, **options)


@pytest.fixture
def probes_fail(monkeypatch):
    def fail(*errors):
        failing = Failing(probe.step_data, *errors)
        monkeypatch.setattr(probe, "step_data", failing)
        return failing

    return fail


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), ConnectionResetError("reset"), TimeoutError()])
def test_what_can_pass_is_tried_again(run, finished, tmp_path, probes_fail, error):
    failing = probes_fail(error)
    run(out="again", workspace="other")
    assert failing.calls > 1
    assert (tmp_path / "again" / "model.onnx").read_bytes() == finished


@pytest.mark.parametrize(
    "error",
    [
        InputError("bad data"),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError("denied"),
        ValueError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_pass_ends_the_run_and_loses_nothing(run, finished, tmp_path, probes_fail, error):
    failing = probes_fail(*[error] * 100)
    with pytest.raises(type(error), match=str(error.args[-1])):
        run(out="again", workspace="other")
    begun = failing.calls
    assert len(failing.errors) + begun == 100
    kept = len(list((tmp_path / "other" / "results").iterdir()))
    assert kept >= 4
    failing.errors.clear()
    manifest = run(out="again", workspace="other")
    assert manifest["work"]["cached_steps"] == kept
    assert begun <= 4  # one a shard
    assert (tmp_path / "again" / "model.onnx").read_bytes() == finished


def test_a_full_disk_ends_the_run_and_loses_nothing(run, finished, tmp_path, monkeypatch):
    def no_space_after(number):
        left, whole = [number], Path.replace

        def replace(path, target):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(path, target)

        return replace

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", no_space_after(7))  # five results and two model files
        with pytest.raises(OSError, match="No space left on device"):
            run(out="again", workspace="other")
    results = list((tmp_path / "other" / "results").iterdir())
    assert len(results) == 5 and not any(path.name.startswith(".") for path in results)
    assert run(out="again", workspace="other")["work"]["cached_steps"] == 5
    assert (tmp_path / "again" / "model.onnx").read_bytes() == finished


@pytest.fixture
def memory_for(monkeypatch):
    """Lets probes run out of memory: with more than so many samples at once, or a number of times."""

    def limited(samples=1000, times=0):
        whole, left = sessions.Session.run_values, [times]

        def run_values(self, feeds, outputs=None):
            largest = max(value.shape()[0] for name, value in feeds.items() if name == "x") if "x" in feeds else 0
            preparing = any(frame.filename.endswith("observation.py") for frame in traceback.extract_stack())
            if not preparing and (largest > samples or left[0] > 0):
                left[0] -= 1
                raise MemoryError("Failed to allocate memory for requested buffer")
            return whole(self, feeds, outputs)

        monkeypatch.setattr(sessions.Session, "run_values", run_values)

    return limited


def test_memory_that_suffices_for_one_batch_at_a_time_changes_nothing(run, finished, tmp_path, memory_for):
    memory_for(times=1)
    with watched_by(log := Said()):
        run(out="again", workspace="other", workers=2)
    assert log.said == ["memory does not suffice for probe; from here on, one batch is computed at a time"]
    assert (tmp_path / "again" / "model.onnx").read_bytes() == finished


def test_memory_that_suffices_for_smaller_batches_is_used_and_it_is_said(run, finished, tmp_path, memory_for):
    memory_for(samples=2)
    with watched_by(log := Said()):
        manifest = run(out="again", workspace="other")
    assert any("batches of 2, which may change the last bit" in said for said in log.said)
    assert manifest["target"]["met"]


def test_memory_that_suffices_for_no_sample_is_said(run, memory_for):
    memory_for(samples=0)
    with pytest.raises(MemoryError, match="even for one sample"):
        run()


_OUT_OF_MEMORY = """
import resource, sys, numpy as np, onnx
from onnx import TensorProto, helper
from quant_core.model.sessions import Session, session_options
import onnxruntime as ort
nodes = [helper.make_node("Expand", ["x", "shape"], ["y"]), helper.make_node("ReduceSum", ["y"], ["z"], keepdims=0)]
x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in "xz")
shape = helper.make_tensor("shape", TensorProto.INT64, [1], [2**31])
model = helper.make_model(helper.make_graph(nodes, "g", [x], [z], [shape]), opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 10
session = Session(ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    session({"x": np.array(1, np.float32)})
except MemoryError as error:
    print("MemoryError")
"""


def test_a_real_lack_of_memory_in_onnx_runtime_is_a_memory_error():
    done = subprocess.run([sys.executable, "-c", _OUT_OF_MEMORY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "MemoryError"
