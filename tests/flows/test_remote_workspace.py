"""The flow with nothing on the local disk but copies: any fsspec URL for the workspace."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import fsspec
import pytest

from quant_core.errors import InputError
from quant_core.results.outcome import open_outcome
from tests.bombs import bombs


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


def test_no_pickle_is_executed_under_any_name_that_is_read(run, workspace, finished, tmp_path):
    files, place, crater = fsspec.filesystem("memory"), f"/{tmp_path.name}/workspace", tmp_path / "crater"
    run(out="remote", workspace=workspace)
    for bomb in bombs(crater):
        names = files.find(place)
        for name in names:
            files.pipe_file(name, bomb)
            record = {"storage_key": f"memory:/{name}", "serializer": {"type": "pickle"}}
            files.pipe_file(f"{place}/records/{name.rpartition('/')[2]}", json.dumps(record).encode())
        for copy in (file for file in (tmp_path / "cache").rglob("*") if file.is_file()):
            copy.write_bytes(bomb)
        assert run(out="remote", workspace=workspace)["work"]["cached_steps"] == 0
        assert not crater.exists()
    assert (tmp_path / "remote" / "model.onnx").read_bytes() == finished


def test_no_secret_of_a_url_is_said_or_written(run, workspace, job, tmp_path, caplog, capfd, monkeypatch):
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):  # which pass nothing on
        monkeypatch.setattr(logger := logging.getLogger(name), "handlers", [*logger.handlers, caplog.handler])
        caplog.set_level("INFO", name)
    files = fsspec.filesystem("memory")
    there = {name: f"memory://me:s3cr3t@{tmp_path.name}/{name}{Path(path).suffix}" for name, path in job.items()}
    for name, path in job.items():
        files.put_file(path, there[name].removeprefix("memory:/"))
    out, place = (f"memory://me:s3cr3t@{tmp_path.name}/{name}" for name in ("out", "workspace"))
    manifest = run(**there, out=out, workspace=place)
    damaged = next(name for name in files.find(f"/me:s3cr3t@{tmp_path.name}/workspace/results") if "probe" in name)
    files.pipe_file(damaged, b"damaged")
    run(**there, out=out, workspace=place)
    with pytest.raises(InputError) as raised:
        run(**{**there, "model": there["model"] + "x"}, out=out, workspace=place)
    outcome = open_outcome(out)
    written = [file.read_bytes().decode("latin-1") for file in outcome.folder.iterdir()]
    said = [json.dumps(manifest), str(raised.value), str(outcome), caplog.text, *capfd.readouterr()]
    assert "Beginning flow run" in caplog.text and "is damaged and computed again" in caplog.text
    leaks = [line for text in [*said, *written] for line in text.splitlines() if "s3cr3t" in line]
    assert leaks == []
