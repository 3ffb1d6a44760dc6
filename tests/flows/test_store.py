"""What a damaged, moved or hostile workspace does to a run: nothing but work."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from quant_core.execution.progress import Watcher, watched_by
from tests.bombs import bombs
from tests.models import MODELS


class Log(Watcher):
    """Keeps what a run says of the store."""

    def __init__(self):
        self.said = []

    def warned(self, message):
        self.said.append(message)


@pytest.fixture
def heard(run):
    """Runs the flow; the manifest and what was said."""

    def ran(**changed):
        log = Log()
        with watched_by(log):
            return run(**changed), log.said

    return ran


def flip(path: Path, at: float = 0.5):
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def model_bytes(tmp_path, out="out"):
    return (tmp_path / out / "model.onnx").read_bytes()


def test_a_sound_workspace_is_not_talked_about(heard, finished):
    manifest, said = heard()
    assert manifest["work"]["computed_steps"] == 0
    assert said == []


@pytest.mark.parametrize("step", ["probe", "prepare", "export"])
def test_what_is_computed_again_is_said(heard, finished, tmp_path, step):
    flip(next((tmp_path / "workspace" / "results").glob(f"{step}-*")))
    _, said = heard()
    assert len(said) == 1 and f"the stored result of {step}" in said[0] and "computed again" in said[0]
    assert heard()[1] == []


@pytest.mark.parametrize("kind", ["prepared", "exported"])
def test_a_model_file_that_is_made_again_is_said(heard, finished, tmp_path, kind):
    flip(next((tmp_path / "workspace" / "files" / kind).rglob("model.onnx")))
    said = heard()[1]
    assert len(said) == 1 and "is gone or damaged; it is made again" in said[0]
    assert heard()[1] == []


def cut(path: Path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "damage"),
    [("0.bin", flip), ("0.bin", cut), ("columns.json", flip), ("columns.json", Path.unlink), ("sha256", flip)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_damaged_unpacked_data_are_unpacked_again_and_it_is_said(heard, finished, tmp_path, file, damage):
    shutil.rmtree(tmp_path / "workspace" / "results")
    for path in (tmp_path / "workspace" / "files" / "columns").rglob(file):
        damage(path)
    manifest, said = heard()
    assert manifest["work"]["cached_steps"] == 0
    assert len(said) == 3 and all("unpacked copy" in line for line in said)
    assert model_bytes(tmp_path) == finished
    assert heard()[1] == []


def test_a_moved_workspace_keeps_what_it_knows(run, finished, tmp_path):
    shutil.move(tmp_path / "workspace", tmp_path / "moved")
    assert run(workspace="moved")["work"]["computed_steps"] == 0


def test_no_pickle_is_executed_under_any_name_that_is_read(run, finished, tmp_path):
    workspace, crater = tmp_path / "workspace", tmp_path / "crater"
    for bomb in bombs(crater):
        # Where Prefect's records of results would be, were they in the store: each would have a pickle read.
        for name in ("records", "results/records"):
            (workspace / name).mkdir(exist_ok=True)
            for path in list((workspace / "results").glob("*-*")):
                record = {"storage_key": str(path), "serializer": {"type": "pickle"}}
                (workspace / name / path.name).write_text(json.dumps(record))
        for path in (workspace / "results").glob("*-*"):
            path.write_bytes(bomb)
        run()
        for path in (file for file in workspace.rglob("*") if file.is_file()):
            path.write_bytes(bomb)
        run()
        assert not crater.exists()
    assert model_bytes(tmp_path) == finished


def test_a_weight_changed_in_a_file_beside_the_model_is_another_model(run, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(MODELS["chain"](), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    run(model=str(path))
    assert run(model=str(path))["work"]["computed_steps"] == 0
    flip(tmp_path / "weights.bin")
    assert run(model=str(path))["work"]["cached_steps"] == 0


def test_another_candidate_precision_probes_only_that(run, finished, tmp_path):
    before = {path.name for path in (tmp_path / "workspace" / "results").glob("probe-*")}
    run(narrow=["a16w8", "a8w8"])
    after = {path.name for path in (tmp_path / "workspace" / "results").glob("probe-*")}
    assert before < after and len(after) == 2 * len(before)


def test_two_runs_at_once_in_one_workspace_give_the_same_model(run, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda out: run(out=out), ["one", "two"]))
    assert model_bytes(tmp_path, "one") == model_bytes(tmp_path, "two")
    assert run()["work"]["computed_steps"] == 0
