"""Output at a URL: the finished folder is copied, the manifest last."""

import json
import shutil
from unittest.mock import Mock

import fsspec
import pytest

from quant_core.errors import InputError
from quant_core.results import output_place
from quant_core.results.output_place import OutputPlace
from quant_core.storage.store import Store


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NARROWCAST_CACHE", str(tmp_path))
    place = OutputPlace.at(f"memory://{tmp_path.name}/out")
    place.folder.mkdir(parents=True)
    for name in ("model.onnx", "a.arrow", "manifest.json"):
        (place.folder / name).write_text(json.dumps(name))
    yield place
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("given", ["out", "file://out"])
def test_a_local_folder_stays_where_it_is(given):
    place = OutputPlace.at(given)
    assert str(place.folder) == "out" and place.url is None
    place.publish()
    place.check()


def test_a_finished_folder_is_at_its_url(place, tmp_path):
    place.publish()
    assert Store(place.url).names("") == ["a.arrow", "manifest.json", "model.onnx"]
    (place.folder / "model.onnx").unlink()
    assert (place.fetch() / "model.onnx").read_text() == '"model.onnx"'


@pytest.mark.parametrize("linked", [True, False])
def test_a_finished_folder_takes_a_local_name_without_being_written_again(place, tmp_path, monkeypatch, linked):
    if not linked:
        monkeypatch.setattr(output_place.os, "link", Mock(side_effect=OSError(18, "another file system")))
    there = OutputPlace(place.folder, str(tmp_path / "there"))
    there.publish()
    shutil.rmtree(place.folder)
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"model.onnx", "a.arrow", "manifest.json"}
    assert (there.fetch() / "model.onnx").read_text() == '"model.onnx"'


def test_a_copy_that_fails_leaves_no_manifest_of_another_run(place, monkeypatch):
    place.publish()
    whole = Store.upload

    def upload(self, name, path):
        if name == "model.onnx":
            raise PermissionError("no more")
        whole(self, name, path)

    monkeypatch.setattr(Store, "upload", upload)
    with pytest.raises(PermissionError):
        place.publish()
    assert "manifest.json" not in Store(place.url).names("")


def test_a_folder_that_is_not_there_is_refused_without_secrets():
    with pytest.raises(InputError, match="^memory://nowhere: no such folder"):
        OutputPlace.at("memory://user:secret@nowhere").fetch()
