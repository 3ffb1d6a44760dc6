"""A scan reads what was written since the last one, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fsspec
import numpy as np
import onnx
import pytest

from flows.watch import digest_cache
from flows.watch.digest_cache import DigestCache
from quant_core.model.model_file import refer_model
from quant_core.storage.references import refer
from tests.models import build


def settled(path: Path) -> None:
    """The files as if written a while ago, as far as a program can say so."""
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(file, (then := file.stat().st_mtime - 3600, then))


@pytest.fixture
def later(monkeypatch):
    """Scans happen an hour after whatever was written: nobody can set the time of a file's last change."""
    monkeypatch.setattr(digest_cache.time, "time", lambda now=digest_cache.time.time: now() + 3600)


@pytest.fixture
def read(tmp_path):
    """Refers to a URL, each time with what was kept; the reference, and whether it was read for that."""

    def looked(url, refers=refer):
        taken = []
        known = DigestCache(tmp_path / "kept" / "known.json")
        found = known.reference(str(url), lambda given: taken.append(given) or refers(given))
        known.save()
        assert found == refers(str(url))
        return bool(taken)

    return looked


def one_file(place: Path) -> Path:
    (place / "data.npz").write_bytes(b"one")
    return place / "data.npz"


def a_folder(place: Path) -> Path:
    for name in ("a.npy", "b.npy"):
        (place / name).write_bytes(name.encode())
    return place


MADE = pytest.mark.parametrize("made", [one_file, a_folder], ids=lambda made: made.__name__)


@MADE
def test_what_is_as_it_was_is_not_read_again(tmp_path, read, later, made):
    (tmp_path / "data").mkdir()
    url = made(tmp_path / "data")
    assert [read(url) for _ in range(3)] == [True, False, False]
    assert read(f"file://{url}")


def rewritten(file: Path) -> None:
    file.write_bytes(bytes(reversed(file.read_bytes())))


def rewritten_with_its_old_time(file: Path) -> None:
    before = file.stat()
    rewritten(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_another_with_its_time(file: Path) -> None:
    other = file.parent.parent / "other"
    other.write_bytes(bytes(reversed(file.read_bytes())))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


def removed_and_another_added(file: Path) -> None:
    file.rename(file.with_name("c.npy"))


@MADE
@pytest.mark.parametrize(
    "change",
    [rewritten, rewritten_with_its_old_time, replaced_by_another_with_its_time],
    ids=lambda change: change.__name__,
)
def test_what_was_written_since_is_read(tmp_path, read, later, made, change):
    (tmp_path / "data").mkdir()
    url = made(tmp_path / "data")
    read(url)
    change(next(path for path in sorted((tmp_path / "data").iterdir())))
    assert [read(url), read(url)] == [True, False]


def test_another_name_in_a_folder_is_another_content(tmp_path, read, later):
    (tmp_path / "data").mkdir()
    url = a_folder(tmp_path / "data")
    read(url)
    removed_and_another_added(url / "a.npy")
    assert [read(url), read(url)] == [True, False]


@MADE
def test_what_was_written_just_before_it_was_read_is_read_again(tmp_path, read, made):
    (tmp_path / "data").mkdir()
    url = made(tmp_path / "data")
    settled(tmp_path / "data")  # which the time of the change gives away
    assert [read(url), read(url)] == [True, True]


def test_a_link_is_read_every_time(tmp_path, read, later):
    (tmp_path / "link").symlink_to(one_file(tmp_path))
    assert [read(tmp_path / "link"), read(tmp_path / "link")] == [True, True]


def test_weights_beside_a_model_are_part_of_it(tmp_path, read, later):
    model = build("(float[N,3,6,6] x) => (float[N,4,6,6] y) { y = Conv(x, w) }", {"w": (4, 3, 1, 1)})
    path = tmp_path / "m.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    # What belongs to it is known once it was read: from then on all of it is watched.
    assert [read(path, refer_model) for _ in range(3)] == [True, True, False]
    weights = np.fromfile(tmp_path / "m.data", np.float32)
    (-weights).tofile(tmp_path / "m.data")
    assert [read(path, refer_model) for _ in range(2)] == [True, False]


@pytest.fixture(params=['"{}"'])
def tagged(request, monkeypatch):
    """A store that names each content by a tag."""
    files = fsspec.filesystem("memory")
    plain = type(files).info

    def info(self, path, **given):
        return plain(self, path, **given) | {"ETag": request.param.format(self.cat_file(path).hex())}

    monkeypatch.setattr(type(files), "info", info)
    yield files
    files.rm("/b", recursive=True)


def test_a_tag_stands_for_the_content_however_young(tagged, read):
    tagged.pipe("/b/data.npz", b"one")
    assert [read("memory://b/data.npz") for _ in range(2)] == [True, False]
    tagged.pipe("/b/data.npz", b"two")
    assert [read("memory://b/data.npz") for _ in range(2)] == [True, False]


@pytest.mark.parametrize("tagged", ['W/"{}"', ""], ids=["weak", "none"], indirect=True)
def test_a_tag_that_promises_nothing_stands_for_nothing(tagged, read):
    tagged.pipe("/b/data.npz", b"one")
    assert [read("memory://b/data.npz") for _ in range(2)] == [True, True]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff", b"null"])
def test_a_damaged_file_counts_for_nothing(tmp_path, read, later, content):
    url = one_file(tmp_path)
    read(url)
    (tmp_path / "kept" / "known.json").write_bytes(content)
    assert read(url)


def test_digests_of_another_engine_count_for_nothing(tmp_path, read, later, monkeypatch):
    url = one_file(tmp_path)
    read(url)
    monkeypatch.setattr(digest_cache, "code_digest", lambda module: "another")
    assert read(url)


def test_no_url_is_written_down(tmp_path, tagged, read):
    tagged.pipe("/b/data.npz", b"one")
    read("memory://b/data.npz")
    assert "data.npz" not in json.dumps(list(json.loads((tmp_path / "kept" / "known.json").read_text())["known"]))


def test_only_the_latest_are_kept(tmp_path, read, later, monkeypatch):
    monkeypatch.setattr(digest_cache, "_MOST", 2)
    urls = [tmp_path / name for name in "abc"]
    for url in urls:
        url.write_text("one")
    assert [read(url) for url in (*urls, *urls[1:], urls[0])] == [True, True, True, False, False, True]


def test_what_is_not_there_is_said_as_ever(tmp_path, read):
    with pytest.raises(Exception, match="nowhere: no such file or folder"):
        read(tmp_path / "nowhere")
