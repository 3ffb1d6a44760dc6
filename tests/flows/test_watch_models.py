"""What a scan of a folder of models does: new, changed, known, half-written and hopeless ones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import onnx
import pytest
from prefect.client.orchestration import get_client

from flows.ui import run_events
from flows.watch import digest_cache, scan, watched_folder
from flows.watch.model_versions import ModelVersions
from flows.watch.scan import WatchError
from flows.watch.watched_folder import WatchedFolder
from flows.watch_models import watch_models
from quant_core.errors import InputError, OutageError, TargetError
from quant_core.execution.progress import Watcher, watched_by, watcher
from quant_core.manifest import Manifest
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.preflight import check_job
from quant_core.precision import PrecisionPlan
from quant_core.results import output_place
from quant_core.results.outcome import Outcome
from quant_core.results.output_place import OutputPlace
from quant_core.storage.store import Store

OPTIONS = "calibration: data/calibration.npz\nevaluation: data/evaluation.npz\nwide: a16w16\n"
MET = OPTIONS + "max_l2: 0.5\n"
MISSED = OPTIONS + "max_l2: 1.0e-9\n"


@pytest.fixture
def folder(job, tmp_path):
    """A watched folder with one model, an hour old, and the folder's options."""
    place = tmp_path / "models"
    (place / "data").mkdir(parents=True)
    for part in ("calibration", "evaluation"):
        shutil.copy(job[part], place / "data")
    shutil.copy(job["model"], place / "one.onnx")
    (place / "narrowcast.yaml").write_text(MET)
    an_hour_ago(place / "one.onnx")
    return place


def an_hour_ago(path: Path):
    os.utime(path, (then := path.stat().st_mtime - 3600, then))


@pytest.fixture
def events(monkeypatch):
    """Every event that is emitted: what happened, and its whole content."""
    told = []
    monkeypatch.setattr(run_events, "emit_event", lambda event, **content: told.append((event, content)))
    return told


@pytest.fixture
def watch(folder, tmp_path, events):
    """Runs the flow: state by model."""

    def ran(**changed):
        given = {"folder": str(folder), "output": str(tmp_path / "out"), "workspace": str(tmp_path / "workspace")}
        try:
            results = watch_models(workers=1, settle_seconds=0.0, **given | changed)
        except WatchError as error:
            results = error.results
        ran.results = {found.name: found for found in results}
        return {found.name: found.state for found in results}

    return ran


@pytest.fixture
def stand_in(finished_job, tmp_path):
    """A run that gives out what an earlier one did, once its input was looked at; a limit of nothing it misses."""

    def run(name, job, output):
        place = OutputPlace(tmp_path / "staging" / uuid4().hex, output)
        data = (job.calibration, job.evaluation, job.holdout)
        check_job(QuantizationJob(job.model, *data, job.config, place), tmp_path / "cache")
        met = job.config.target.limit > 1e-6
        manifest = json.loads((finished_job / "out" / "manifest.json").read_text())
        manifest["target"] |= {"met": met, "limit": job.config.target.limit}
        manifest["input"] = {"sha256": job.model.sha256}
        shutil.copytree(finished_job / "out", place.folder, dirs_exist_ok=True)
        (place.folder / "manifest.json").write_text(json.dumps(manifest))
        place.publish()
        if not met:
            plan = PrecisionPlan.from_dict(manifest["plan"])
            raise TargetError("", Outcome(place.folder, plan, met, Manifest.model_validate(manifest)))
        return Manifest.model_validate(manifest)

    return run


@pytest.fixture
def scanned(folder, tmp_path, events, stand_in):
    """Scans the folder, with a stand-in for runs: state by model."""

    def ran(run=stand_in, **changed):
        given = {"folder": str(folder), "output": str(tmp_path / "out"), "metrics": ()} | changed
        watched = WatchedFolder.at(given["folder"], given["metrics"])
        found = list(scan.scan(watched, watched.models, Store(given["output"]), run, settle_seconds=0.0))
        ran.results = {one.name: one for one in found}
        return {one.name: one.state for one in found}

    return ran


def current(tmp_path, name="one"):
    return json.loads((tmp_path / "out" / name / "current.json").read_text())


def versions(tmp_path, name="one"):
    return sorted(path.name for path in (tmp_path / "out" / name).iterdir() if path.is_dir())


def test_a_new_model_is_quantized_once(watch, folder, tmp_path, events):
    assert watch() == {"one.onnx": "met"}
    (version,) = versions(tmp_path)
    manifest = json.loads((tmp_path / "out" / "one" / version / "manifest.json").read_text())
    assert current(tmp_path)["model"] == f"{version}/model.onnx"
    assert current(tmp_path)["sha256"] == manifest["output"]["sha256"]
    assert manifest["sources"]["output"] == str(tmp_path / "out" / "one" / version)
    ((event, content),) = events
    assert event == "narrowcast.run.met"
    assert content["resource"]["prefect.resource.id"] == f"narrowcast.model.{folder / 'one.onnx'}"
    assert [one["prefect.resource.role"] for one in content["related"]] == ["narrowcast-output"]
    assert content["payload"]["score"] < 0.5
    assert watch() == {"one.onnx": "done"}
    assert len(events) == 1


def test_what_was_not_written_since_is_not_read_again(watch, folder, monkeypatch):
    read = []
    for name in ("refer", "refer_model"):
        plain = getattr(watched_folder, name)
        monkeypatch.setattr(watched_folder, name, lambda url, plain=plain: read.append(Path(url).name) or plain(url))
    now = digest_cache.time.time
    monkeypatch.setattr(digest_cache.time, "time", lambda: now() + 60)
    watch()
    assert sorted(read) == ["calibration.npz", "evaluation.npz", "one.onnx"]
    assert (watch(), len(read)) == ({"one.onnx": "done"}, 3)
    with (folder / "one.onnx").open("r+b") as file:
        file.write(file.read(1))
    assert (watch(), len(read)) == ({"one.onnx": "done"}, 4)


def test_another_machine_does_nothing_again(scanned, folder, tmp_path):
    scanned()
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert scanned(folder=str(moved)) == {"one.onnx": "done"}


@pytest.mark.parametrize("what", ["model", "options", "data"])
def test_what_has_changed_is_another_version_beside_the_old_one(scanned, folder, tmp_path, what):
    scanned()
    before = current(tmp_path)
    if what == "model":
        model = onnx.load(folder / "one.onnx")
        model.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(model.graph.initializer[0]) * 1.01, model.graph.initializer[0].name
            )
        )
        onnx.save(model, folder / "one.onnx")
    elif what == "options":
        (folder / "one.yaml").write_text(MET.replace("0.5", "0.4"))
    else:
        arrays = dict(np.load(folder / "data" / "calibration.npz"))
        np.savez(folder / "data" / "calibration.npz", **{name: array * 1.5 for name, array in arrays.items()})
    assert scanned() == {"one.onnx": "met"}
    assert current(tmp_path) != before
    assert len(versions(tmp_path)) == 2 and before["version"] in versions(tmp_path)


def test_a_model_that_is_taken_back_is_current_again_without_work(scanned, folder, tmp_path):
    scanned()
    before = current(tmp_path)
    (folder / "one.yaml").write_text(MET.replace("0.5", "0.4"))
    scanned()
    (folder / "one.yaml").unlink()
    assert scanned() == {"one.onnx": "done"}
    assert current(tmp_path) == before


@pytest.fixture
def two_versions(scanned, folder, tmp_path):
    """Names of a first and a second version, of which the second is current."""
    scanned()
    first = current(tmp_path)["version"]
    (folder / "one.yaml").write_text(MET.replace("0.5", "0.4"))
    scanned()
    return first, current(tmp_path)["version"]


def test_a_rollback_makes_the_version_before_current_and_scans_leave_it(two_versions, scanned, folder, tmp_path):
    first, second = two_versions
    assert ModelVersions(Store(str(tmp_path / "out" / "one"))).roll_back() == first
    assert current(tmp_path)["version"] == first
    assert scanned() == {"one.onnx": "done"}
    assert current(tmp_path)["version"] == first
    (folder / "one.yaml").write_text(MET.replace("0.5", "0.45"))
    assert scanned() == {"one.onnx": "met"}
    assert current(tmp_path)["version"] not in two_versions


def test_a_version_that_was_rolled_back_is_taken_again_by_its_name(two_versions, scanned, tmp_path):
    first, second = two_versions
    place = ModelVersions(Store(str(tmp_path / "out" / "one")))
    place.roll_back()
    assert place.roll_back(second) == second
    assert scanned() == {"one.onnx": "done"}
    assert current(tmp_path)["version"] == second


def test_a_rollback_to_what_is_not_there_or_damaged_changes_nothing(two_versions, tmp_path):
    first, second = two_versions
    place = ModelVersions(Store(str(tmp_path / "out" / "one")))
    with pytest.raises(InputError, match=f"nowhere: no such version; there are .*{first}"):
        place.roll_back("nowhere")
    (tmp_path / "out" / "one" / first / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="not what its manifest.json says"):
        place.roll_back()
    assert current(tmp_path)["version"] == second


def test_the_only_version_cannot_be_rolled_back(scanned, tmp_path):
    scanned()
    with pytest.raises(InputError, match="no version was current before this one"):
        ModelVersions(Store(str(tmp_path / "out" / "one"))).roll_back()


def test_the_same_model_twice_is_computed_once(watch, folder, tmp_path):
    (folder / "sub").mkdir()
    shutil.copy(folder / "one.onnx", folder / "sub" / "two.onnx")
    assert watch() == {"one.onnx": "met", "sub/two.onnx": "met"}
    (version,) = versions(tmp_path, "sub/two")
    manifest = json.loads((tmp_path / "out" / "sub" / "two" / version / "manifest.json").read_text())
    assert manifest["work"]["computed_steps"] == 0
    assert current(tmp_path, "sub/two") == current(tmp_path)


def test_models_that_fail_stop_no_other(scanned, folder, tmp_path, events):
    (folder / "a.yaml").write_text("max_l2: [")
    (folder / "b.yaml").write_text(MET + "out: there\nserach: linear\n")
    (folder / "c.yaml").write_text(MISSED)
    for name in "abc":
        shutil.copy(folder / "one.onnx", folder / f"{name}.onnx")
    (folder / "d.onnx").write_text("no model")
    an_hour_ago(folder / "d.onnx")
    states = {"a.onnx": "failed", "b.onnx": "failed", "d.onnx": "failed", "c.onnx": "missed", "one.onnx": "met"}
    assert scanned() == states
    said = {name: found.says for name, found in scanned.results.items()}
    assert "a.yaml:1: is not YAML" in said["a.onnx"]
    assert "b.yaml:5: out: is for the watch to say" in said["b.onnx"]
    assert "b.yaml:6: serach: is not an option; did you mean search?" in said["b.onnx"]
    assert "d.onnx: not an ONNX model" in said["d.onnx"]
    assert [found.code for found in scanned.results.values()] == [2, 2, 3, 2, 0]
    assert sorted(event.rpartition(".")[2] for event, _ in events) == ["failed", "failed", "failed", "met", "missed"]
    assert not (tmp_path / "out" / "c" / "current.json").exists()
    assert versions(tmp_path, "c")
    assert scanned() == states | {"c.onnx": "done", "one.onnx": "done"}


def test_a_bug_or_an_outage_with_one_model_stops_no_other(scanned, folder, stand_in):
    for name in ("a", "b"):
        shutil.copy(folder / "one.onnx", folder / f"{name}.onnx")

    def breaks(name, job, output):
        if name == "a.onnx":
            raise RuntimeError("a bug at s3://me:s3cr3t@bucket/x")
        if name == "b.onnx":
            raise OutageError("s3://bucket: does not answer")
        return stand_in(name, job, output)

    assert scanned(breaks) == {"a.onnx": "failed", "b.onnx": "failed", "one.onnx": "met"}
    assert [one.code for one in scanned.results.values()] == [1, 1, 0]
    assert scanned.results["a.onnx"].says == "RuntimeError: a bug at s3://bucket/x; finished steps are kept"


def test_the_worst_is_the_exit_code_and_all_of_it_is_shown(watch, folder):
    (folder / "a.yaml").write_text("max_l2: [")
    (folder / "c.yaml").write_text(MISSED)
    for name in "ac":
        shutil.copy(folder / "one.onnx", folder / f"{name}.onnx")
    assert watch() == {"a.onnx": "failed", "c.onnx": "missed", "one.onnx": "met"}
    assert WatchError(list(watch.results.values())).code == 2
    text = artifact()
    assert "3 models" in text and "2 of them to be seen to" in text and text.index("c.onnx") < text.index("one.onnx")


def artifact():
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json={"sort": "CREATED_DESC", "limit": 200}).json()
    return next(one["data"] for one in found if one["key"] == "narrowcast-watch")


# --- models that are not whole yet ---------------------------------------------------------------------------------


def test_half_a_model_is_waited_for(scanned, folder):
    whole = (folder / "one.onnx").read_bytes()
    (folder / "one.onnx").write_bytes(whole[: len(whole) // 2])
    assert scanned() == {"one.onnx": "waiting"}
    assert scanned.results["one.onnx"].code == 0
    (folder / "one.onnx").write_bytes(whole)
    assert scanned() == {"one.onnx": "met"}


def test_a_model_without_its_weights_is_waited_for(scanned, folder):
    model = onnx.load(folder / "one.onnx")
    onnx.save(model, folder / "one.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").rename(folder / "elsewhere")
    assert scanned() == {"one.onnx": "waiting"}
    assert "its file weights.bin is missing" in scanned.results["one.onnx"].says
    (folder / "elsewhere").rename(folder / "weights.bin")
    assert scanned() == {"one.onnx": "met"}


def test_a_model_without_options_is_waited_for_and_fails_in_the_end(scanned, folder):
    (folder / "narrowcast.yaml").unlink()
    (folder / "one.onnx").touch()
    assert scanned() == {"one.onnx": "waiting"}
    an_hour_ago(folder / "one.onnx")
    assert scanned() == {"one.onnx": "failed"}
    assert "there is no one.yaml and no narrowcast.yaml" in scanned.results["one.onnx"].says


def test_a_model_that_changes_while_it_is_watched_is_left_for_the_next_scan(scanned, folder, monkeypatch):
    def grows(seconds):
        with (folder / "one.onnx").open("ab") as file:
            file.write(b"\0")

    monkeypatch.setattr(scan.time, "sleep", grows)
    assert scanned() == {"one.onnx": "waiting"}
    assert "is still being written" in scanned.results["one.onnx"].says


# --- the next run begins while the one before writes its report -----------------------------------------------------


def test_runs_overlap_if_both_models_are_small(scanned, folder, stand_in, monkeypatch):
    for name in ("two", "two_large", "written"):
        shutil.copy(folder / "one.onnx", folder / f"{name}.onnx")
    large = onnx.load(folder / "one.onnx")
    large.doc_string = "a text that makes it larger"
    onnx.save(large, folder / "two_large.onnx")
    monkeypatch.setattr(scan, "_LARGEST_BESIDE", (folder / "one.onnx").stat().st_size)
    found = {}

    def recorded(calls):
        for call in calls:
            (model, *_), result = call.run.args, call.run()
            found[model.name] = call.may_overlap
            yield result

    monkeypatch.setattr(scan, "staggered", recorded)
    scanned()
    assert found == {"one.onnx": True, "two.onnx": True, "two_large.onnx": False, "written.onnx": True}


def test_what_a_run_says_is_said_of_its_model(scanned, stand_in):
    class Listener(Watcher):
        def noted(self, message):
            said.append(message)

        def warned(self, message):
            said.append(message)

    def speaks(name, job, output):
        watcher().noted("a note")
        watcher().warned("a warning")
        return stand_in(name, job, output)

    said = []
    with watched_by(Listener()):
        scanned(speaks)
    assert {"one.onnx: a note", "one.onnx: a warning"} < set(said)


def test_models_of_overlapping_runs_are_the_same_bytes_as_alone(watch, folder, tmp_path):
    for name, factor in {"three": 0.75, "two": 0.5}.items():
        model = onnx.load(folder / "one.onnx")
        weight = model.graph.initializer[0]
        weight.CopyFrom(onnx.numpy_helper.from_array(factor * onnx.numpy_helper.to_array(weight), weight.name))
        onnx.save(model, folder / f"{name}.onnx")
    (folder / "three.yaml").write_text(MISSED)
    states = {"one.onnx": "met", "three.onnx": "missed", "two.onnx": "met"}
    assert watch() == states
    for name, state in states.items():
        assert watch(model=name, output=str(tmp_path / "alone"), workspace=str(tmp_path / "w" / name)) == {name: state}
    for file in sorted((tmp_path / "alone").glob("*/*/*.[ao]*")):  # the model and the tables
        assert file.read_bytes() == (tmp_path / "out" / file.relative_to(tmp_path / "alone")).read_bytes(), file


# --- nothing half-written under its final name ---------------------------------------------------------------------


def test_a_kill_while_the_folder_is_filled_leaves_no_version(scanned, folder, tmp_path, monkeypatch):
    copied = []

    def dies(source, path):
        copied.append(path.name)
        if len(copied) == 3:
            raise KeyboardInterrupt
        path.write_bytes(source.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(output_place, "_link_or_copy", dies)
        with pytest.raises(KeyboardInterrupt):
            scanned()
    assert len(copied) == 3
    assert not list((tmp_path / "out" / "one").iterdir())
    assert scanned() == {"one.onnx": "met"}


def test_what_killed_scans_have_left_is_removed_by_a_later_one(watch, folder, tmp_path):
    old, new = (f".{name}.{'0' * 32}" for name in ("old", "new"))
    for place in ("out/one", "workspace/files", "workspace/files/exported", "workspace/results"):
        for name in (old, new):
            (tmp_path / place / name).mkdir(parents=True)
            (tmp_path / place / name / "model.onnx").write_text("half")
    for path in tmp_path.rglob(f"{old}/**/*"):
        an_hour_ago(path)
    for path in tmp_path.rglob(old):
        an_hour_ago(path)
    assert watch() == {"one.onnx": "met"}
    assert not list(tmp_path.rglob(old))
    assert len(list(tmp_path.rglob(new))) == 4


def test_a_kill_before_the_version_is_current_is_made_good(scanned, folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ModelVersions, "point_to", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scanned()
    assert not (tmp_path / "out" / "one" / "current.json").exists()
    assert scanned() == {"one.onnx": "done"}
    assert current(tmp_path)["version"] in versions(tmp_path)


def test_what_is_left_of_a_version_is_made_again(scanned, folder, tmp_path):
    scanned()
    (tmp_path / "out" / "one" / current(tmp_path)["version"] / "manifest.json").unlink()
    assert scanned() == {"one.onnx": "met"}
    (tmp_path / "out" / "one" / current(tmp_path)["version"] / "manifest.json").write_text("{}")
    assert scanned() == {"one.onnx": "failed"}
    assert "remove the folder to have it made again" in scanned.results["one.onnx"].says


def test_everything_may_be_in_a_store(watch, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NARROWCAST_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    there = f"memory://{tmp_path.name}"
    files.put(str(folder), f"/{tmp_path.name}/models", recursive=True)
    places = {name: f"{there}/{name}" for name in ("output", "workspace")}
    assert watch(folder=f"{there}/models", **places) == {"one.onnx": "met"}
    pointer = json.loads(files.cat_file(f"/{tmp_path.name}/output/one/current.json"))
    assert files.exists(f"/{tmp_path.name}/output/one/{pointer['model']}")
    assert watch(folder=f"{there}/models", model=f"{there}/models/one.onnx", **places) == {"one.onnx": "done"}
    files.rm(f"/{tmp_path.name}/output/one/{pointer['version']}/manifest.json")
    assert watch(folder=f"{there}/models", **places) == {"one.onnx": "met"}
    files.store.clear()


# --- what may be asked for -----------------------------------------------------------------------------------------


def test_a_metric_is_imported_only_if_the_watch_says_so(scanned, folder, tmp_path, monkeypatch):
    (tmp_path / "watched_metric.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'imported')!r}).touch()\ndef score(outputs, labels): return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (folder / "one.yaml").write_text(OPTIONS + "metric: watched_metric:score\nmax_metric_drop: 0.1\n")
    assert scanned() == {"one.onnx": "failed"}
    assert "watched_metric:score: is not among those" in scanned.results["one.onnx"].says
    assert not (tmp_path / "imported").exists()
    assert scanned(metrics=["watched_metric:score"]) == {"one.onnx": "met"}


def test_hidden_files_are_no_models(folder):
    for name in (".one.onnx.part", ".hidden.onnx", ".cache/x.onnx"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "one.onnx", folder / name)
    assert WatchedFolder.at(str(folder)).models == ["one.onnx"]


BAD_INPUT = {
    "no such folder": ({"folder": "nowhere"}, "nowhere: no such folder; nothing to watch"),
    "no folder": ({"folder": ""}, "folder: is not filled in"),
    "no such store": ({"folder": "odd://b/models"}, "odd://b/models: cannot be read: Protocol not known: odd"),
    "no such model": ({"model": "two.onnx"}, "two.onnx: no such model in "),
    "an output in the folder": ({"output": "models/out"}, "output models/out: is in the watched folder"),
}


@pytest.mark.parametrize(("changed", "said"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(folder, tmp_path, monkeypatch, changed, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^{said}"):
        watch_models.fn(**{"folder": "models", "output": "out", "workspace": "workspace"} | changed)


def test_the_command(command, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "c.yaml").write_text(MISSED)
    shutil.copy(folder / "one.onnx", folder / "c.onnx")
    given = ("watch", "models", "--out", "out", "--workspace", "workspace", "--workers", "1")
    code, printed, errors = command(*given)
    assert (code, errors) == (3, "")
    assert "c.onnx: missed: " in printed and "one.onnx: met: " in printed
    code, printed, errors = command(*given, "--json")
    assert (code, errors) == (0, "")
    assert [found["state"] for found in json.loads(printed)] == ["done", "done"]
    code, printed, errors = command("watch", "nowhere", "--out", "out", "--workspace", "workspace")
    assert (code, printed, errors) == (2, "", "narrowcast: nowhere: no such folder; nothing to watch\n")
