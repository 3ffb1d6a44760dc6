"""The first command of the README, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pytest

DEMO = [sys.executable, "-m", "flows.command_line", "demo", "--out", "out"]


@pytest.fixture
def environment(tmp_path):
    """A user who has never run anything of this."""
    places = {"PREFECT_HOME": tmp_path / "prefect", "NARROWCAST_WORKSPACE": tmp_path / "workspace", "HOME": tmp_path}
    return {**os.environ, **{name: str(path) for name, path in places.items()}}


def test_the_demo_meets_its_target_with_a_mix_and_again_from_what_it_knows(tmp_path, environment):
    first = subprocess.run(DEMO, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (first.returncode, first.stderr) == (0, "")
    assert "Target met." in first.stdout
    out = tmp_path / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["target"]["met"]
    assert 0 < manifest["narrowed"]["layers"] < manifest["narrowed"]["of"]
    for table in ("layers", "calibration", "sensitivity", "search"):
        assert pa.ipc.open_file(out / f"{table}.arrow").read_all().num_rows > 0
    assert "<!doctype html>" in (out / "report.html").read_text().lower()
    onnx.checker.check_model(out / "model.onnx", full_check=True)
    evaluation = np.load(out / "data" / "evaluation.npz")
    session = ort.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"input": evaluation["input"]})
    # ONNX Runtime's default optimisations may round differently; no more than an answer or two hangs on that.
    top1 = float((logits.argmax(axis=1) == evaluation["labels"]).mean())
    assert abs(top1 - manifest["scores"]["mixed"]["top1"]) < 0.005

    again = subprocess.run(
        [*DEMO, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["work"]["computed_steps"] == 0
    assert json.loads(again.stdout)["output"] == manifest["output"]


@pytest.fixture
def hears_ctrl_c():
    """A shell has what it starts in the background ignore Ctrl-C: these tests perhaps, and what they start in turn."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(folder, environment):
    """Start the demo and press Ctrl-C after its first step; None if it was over before that."""
    process = subprocess.Popen(
        DEMO,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    results, deadline = Path(environment["NARROWCAST_WORKSPACE"]) / "results", time.monotonic() + 100
    while not (results.exists() and any(results.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    in_time = process.poll() is None and not (folder / "out" / "manifest.json").exists()
    if in_time:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the whole group
    _, errors = process.communicate(timeout=60)
    return (process.returncode, errors, len(list(results.iterdir()))) if in_time else None


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_ends_a_run_with_one_line_and_it_goes_on_from_there(tmp_path, environment):
    for attempt in range(5):
        folder = tmp_path / f"attempt{attempt}"
        folder.mkdir()
        environment |= {"NARROWCAST_WORKSPACE": str(folder / "workspace")}
        if found := interrupted(folder, environment):
            break
    code, errors, finished = found
    assert code == 130
    assert errors.split("\n") == ["", "narrowcast: stopped; run the same command again to go on from here", ""]
    assert not (folder / "out" / "manifest.json").exists()
    again = subprocess.run([*DEMO, "--json"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert json.loads(again.stdout)["work"]["cached_steps"] >= finished
