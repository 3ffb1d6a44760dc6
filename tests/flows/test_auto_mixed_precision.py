"""The main job as a flow: what is stored, what is found again, what is made again."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest

from quant_core.errors import InputError, TargetError

STEPS = ("prepare", "calibrate", "baseline", "evaluate", "probe", "rank", "export", "verify", "timing")


def stored(tmp_path, step="", workspace="workspace"):
    """Result files of a step, oldest name first."""
    return sorted((tmp_path / workspace / "results").glob(f"{step}*"))


def model_bytes(tmp_path, out="out"):
    return (tmp_path / out / "model.onnx").read_bytes()


def test_a_second_identical_run_computes_nothing(run, tmp_path):
    first = run()
    before = model_bytes(tmp_path)
    second = run()
    assert first["work"]["computed_steps"] > 0
    assert second["work"]["computed_steps"] == 0
    assert second["work"]["cached_steps"] == first["work"]["computed_steps"] + first["work"]["cached_steps"]
    assert model_bytes(tmp_path) == before
    assert {key: second[key] for key in ("scores", "plan", "target")} == {
        key: first[key] for key in ("scores", "plan", "target")
    }


def test_another_target_computes_no_calibration_and_no_probe_again(run, tmp_path):
    run(limit=0.005)
    before = {step: stored(tmp_path, step) for step in STEPS}
    assert before["probe"]
    run(limit=0.003)
    after = {step: stored(tmp_path, step) for step in STEPS}
    for step in ("prepare", "calibrate", "baseline", "probe"):
        assert after[step] == before[step]


def test_every_stored_result_is_an_arrow_file_and_none_a_pickle(run, tmp_path):
    run()
    assert {path.name.split("-")[0] for path in stored(tmp_path)} == set(STEPS)
    for path in stored(tmp_path):
        assert pa.ipc.open_file(path).read_all().num_rows > 0
    for path in (file for file in tmp_path.rglob("*") if file.is_file()):
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError)):
            pickle.loads(path.read_bytes())


def test_two_workers_write_what_one_does(run, tmp_path):
    run(workers=1, out="one", workspace="first")
    run(workers=2, out="two", workspace="second")
    assert model_bytes(tmp_path, "one") == model_bytes(tmp_path, "two")


def test_more_workers_compute_nothing_again(run, finished, tmp_path):
    assert run(workers=2)["work"]["computed_steps"] == 0


def flip_a_byte(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


DAMAGE = {
    "flipped byte": flip_a_byte,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "not Arrow": lambda path: path.write_text("something else"),
}


@pytest.mark.parametrize(
    ("step", "how"),
    [*((step, "flipped byte") for step in STEPS), *(("probe", how) for how in DAMAGE if how != "flipped byte")],
)
def test_a_damaged_result_is_made_again(run, finished, tmp_path, step, how):
    DAMAGE[how](stored(tmp_path, step)[0])
    again = run()
    assert again["work"]["computed_steps"] == 1
    assert model_bytes(tmp_path) == finished
    assert run()["work"]["computed_steps"] == 0


def test_a_result_under_another_steps_name_is_made_again(run, finished, tmp_path):
    one, other, *_ = stored(tmp_path, "verify")
    shutil.copy(other, one)
    assert run()["work"]["computed_steps"] == 1


@pytest.mark.parametrize("kind", ["prepared", "exported"])
@pytest.mark.parametrize("how", ["gone", "flipped byte"])
def test_a_damaged_model_file_is_made_again(run, finished, tmp_path, kind, how):
    DAMAGE[how](next((tmp_path / "workspace" / "files" / kind).rglob("model.onnx")))
    assert run()["work"]["computed_steps"] == 1
    assert model_bytes(tmp_path) == finished


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_a_pickle_in_the_place_of_a_result_is_not_executed(run, finished, tmp_path):
    bomb = Bomb()
    bomb.path = str(tmp_path / "exploded")
    for path in [*stored(tmp_path), *(tmp_path / "workspace" / "files").rglob("*.json")]:
        path.write_bytes(pickle.dumps(bomb))
    shutil.rmtree(tmp_path / "workspace" / "files")
    run()
    assert not (tmp_path / "exploded").exists()


def test_changed_data_is_other_data(run, finished, job, tmp_path):
    changed = dict(np.load(job["evaluation"]))
    changed["x"][0] += 0.1
    np.savez(tmp_path / "evaluation.npz", **changed)
    before = {step: stored(tmp_path, step) for step in STEPS}
    run(evaluation=str(tmp_path / "evaluation.npz"))
    assert stored(tmp_path, "calibrate") == before["calibrate"]
    assert len(stored(tmp_path, "probe")) > len(before["probe"])


def test_one_changed_weight_is_another_model(run, finished, job, tmp_path):
    model = onnx.load(job["model"])
    weight = model.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    again = run(model=str(tmp_path / "other.onnx"))
    assert again["work"]["cached_steps"] == 0


def test_the_same_content_elsewhere_is_the_same(run, finished, job, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    places = {name: shutil.copy(path, moved) for name, path in job.items()}
    assert run(out="other", **places)["work"]["computed_steps"] == 0


def test_a_target_the_wide_model_misses_is_an_error_and_the_wide_model_is_written(run, tmp_path):
    with pytest.raises(TargetError, match=r"l2 <= 1e-09.*off by"):
        run(limit=1e-9)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert not manifest["target"]["met"]
    assert set(manifest["plan"].values()) == {"a16w16"}
    assert model_bytes(tmp_path)


def test_bad_input_writes_nothing(run, tmp_path):
    with pytest.raises(InputError, match="labels"):
        run(metric="top1_drop")
    assert not (tmp_path / "out").exists()
