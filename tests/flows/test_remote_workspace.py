"""The flow with nothing on the local disk but copies: any fsspec URL for the workspace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import pytest

from quant_core.outcome import open_outcome


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("NARROWCAST_CACHE", str(tmp_path / "cache"))
    yield f"memory://{tmp_path.name}/workspace"
    fsspec.filesystem("memory").store.clear()


def test_a_remote_workspace_gives_the_same_model_and_remembers_it(run, workspace, finished, tmp_path):
    first = run(out="remote", workspace=workspace)
    assert first["work"]["computed_steps"] > 0
    assert (tmp_path / "remote" / "model.onnx").read_bytes() == finished
    assert run(out="again", workspace=workspace)["work"]["computed_steps"] == 0


def test_a_machine_without_any_copy_needs_to_compute_nothing(run, workspace, finished, tmp_path):
    run(out="one", workspace=workspace)
    shutil.rmtree(tmp_path / "cache")
    assert run(out="two", workspace=workspace)["work"]["computed_steps"] == 0
    assert (tmp_path / "two" / "model.onnx").read_bytes() == finished


@pytest.mark.parametrize("kind", ["prepared", "exported"])
def test_a_model_file_lost_on_both_sides_is_made_again(run, workspace, finished, tmp_path, kind):
    run(out="one", workspace=workspace)
    shutil.rmtree(tmp_path / "cache")
    files = fsspec.filesystem("memory")
    for path in files.find(f"/{tmp_path.name}/workspace/files/{kind}"):
        files.rm(path)
    assert run(out="two", workspace=workspace)["work"]["computed_steps"] == 1
    assert (tmp_path / "two" / "model.onnx").read_bytes() == finished


def test_model_data_and_output_may_be_anywhere(run, workspace, finished, job, tmp_path):
    files = fsspec.filesystem("memory")
    there = {name: f"memory://{tmp_path.name}/{name}{Path(path).suffix}" for name, path in job.items()}
    for name, path in job.items():
        files.put_file(path, there[name].removeprefix("memory:/"))
    out = f"memory://{tmp_path.name}/out"
    manifest = run(**there, out=out, workspace=workspace)
    assert files.cat_file(f"/{tmp_path.name}/out/model.onnx") == finished
    assert json.loads(files.cat_file(f"/{tmp_path.name}/out/manifest.json")) == manifest
    assert manifest["sources"] == {**there, "output": out}
    shutil.rmtree(tmp_path / "cache")
    assert open_outcome(out).table("search").num_rows == manifest["work"]["evaluations"]
