"""The flow with nothing on the local disk but copies: any fsspec URL for the workspace."""

from __future__ import annotations

import shutil

import fsspec
import pytest


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
