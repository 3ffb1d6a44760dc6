"""References by content, and writes that are whole or not there."""

import errno
import hashlib
import os
import stat

import fsspec
import pytest

from quant_core.errors import InputError
from quant_core.storage import references
from quant_core.storage.references import atomic_folder, atomic_write, fetch, file_digest, refer
from quant_core.storage.scratch import scratch_folder

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Crash(BaseException):
    """A kill, which no `except Exception` sees."""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"one")
    (folder / "b.npz").write_bytes(b"two")
    return folder


@pytest.fixture
def remote():
    """A folder on fsspec's in-memory file system."""
    files = fsspec.filesystem("memory")
    files.pipe({"/bucket/data/a.npz": b"one", "/bucket/data/b.npz": b"two"})
    yield "memory://bucket/data"
    files.rm("/bucket", recursive=True)


def listing(path):
    return sorted(file.name for file in path.iterdir())


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "empty").touch()
    assert refer(tmp_path / "empty").sha256 == file_digest(tmp_path / "empty") == EMPTY_SHA256


@pytest.mark.parametrize(
    "as_given", [str, lambda path: path, lambda path: f"file://{path}"], ids=["text", "Path", "url"]
)
def test_a_file_is_referred_to_by_text_path_or_url(folder, as_given):
    reference = refer(as_given(folder / "a.npz"))
    assert reference.sha256 == file_digest(folder / "a.npz")
    assert reference.url == str(as_given(folder / "a.npz"))


def change_content(folder):
    (folder / "a.npz").write_bytes(b"0ne")


def change_name(folder):
    (folder / "a.npz").rename(folder / "c.npz")


def swap_names(folder):
    (folder / "a.npz").rename(folder / "c")
    (folder / "b.npz").rename(folder / "a.npz")
    (folder / "c").rename(folder / "b.npz")


def add_file(folder):
    (folder / "z.npz").touch()


def move_a_byte_to_the_next_file(folder):
    (folder / "a.npz").write_bytes(b"on")
    (folder / "b.npz").write_bytes(b"etwo")


@pytest.mark.parametrize(
    "change",
    [change_content, change_name, swap_names, add_file, move_a_byte_to_the_next_file],
    ids=lambda change: change.__name__,
)
def test_the_digest_of_a_folder_changes_on(change, folder):
    before = refer(folder)
    change(folder)
    assert refer(folder).sha256 != before.sha256
    with pytest.raises(InputError, match="changed since this run began"):
        fetch(before, folder.parent / "cache")


def test_the_digest_of_a_folder_does_not_depend_on_where_it_is(folder, tmp_path):
    before = refer(folder)
    assert refer(folder.rename(tmp_path / "moved")).sha256 == before.sha256


def test_a_folder_has_the_same_digest_here_and_remote(folder, remote):
    assert refer(remote).sha256 == refer(folder).sha256


@pytest.mark.parametrize("url", ["nowhere", "file:///nowhere", "memory://nowhere"])
def test_what_is_not_there_is_refused(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^{url}: no such file or folder$"):
        refer(url)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError, match="^odd://x: cannot be read: Protocol not known"):
        refer("odd://x")


def test_a_local_file_is_used_where_it_is(folder, tmp_path):
    assert fetch(refer(folder / "a.npz"), tmp_path / "cache") == folder / "a.npz"
    assert fetch(refer(folder), tmp_path / "cache") == folder
    assert not (tmp_path / "cache").exists()


def test_a_local_file_that_is_gone_is_refused(folder, tmp_path):
    reference = refer(folder / "a.npz")
    (folder / "a.npz").unlink()
    with pytest.raises(InputError, match="no such file"):
        fetch(reference, tmp_path)


def test_a_remote_folder_is_copied_once(remote, tmp_path):
    reference = refer(remote)
    copy = fetch(reference, tmp_path)
    assert listing(copy) == ["a.npz", "b.npz"]
    assert refer(copy).sha256 == reference.sha256
    fsspec.filesystem("memory").pipe("/bucket/data/a.npz", b"later")
    assert fetch(reference, tmp_path) == copy
    assert (copy / "a.npz").read_bytes() == b"one"


def test_a_remote_file_keeps_its_name_for_its_suffix(remote, tmp_path):
    assert fetch(refer(f"{remote}/b.npz"), tmp_path).name == "b.npz"


def test_a_remote_file_that_changed_is_refused_and_not_kept(remote, tmp_path):
    reference = refer(f"{remote}/a.npz")
    fsspec.filesystem("memory").pipe("/bucket/data/a.npz", b"later")
    with pytest.raises(InputError, match="changed since this run began"):
        fetch(reference, tmp_path)
    assert listing(tmp_path / "files") == []


def test_a_file_is_written_whole_over_an_old_one(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"old", b"new content"):
        atomic_write(path, content)
        assert path.read_bytes() == content
    assert listing(path.parent) == ["file"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch, moment):
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def crash(*arguments):
        raise Crash

    owner = os if moment == "fsync" else type(path)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(owner, moment, crash)
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["file"]


def test_others_may_read_what_was_written_as_far_as_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", b"")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_folder_takes_its_name_when_it_is_complete(tmp_path):
    with atomic_folder(tmp_path / "deep" / "result") as building:
        (building / "file").write_bytes(b"x")
        assert not (tmp_path / "deep" / "result").exists()
    assert listing(tmp_path / "deep") == ["result"]
    assert (tmp_path / "deep" / "result" / "file").read_bytes() == b"x"


@pytest.mark.parametrize("error", [ValueError, Crash])
def test_an_exception_leaves_no_folder(tmp_path, error):
    with pytest.raises(error), atomic_folder(tmp_path / "result") as building:
        (building / "file").write_bytes(b"x")
        raise error
    assert listing(tmp_path) == []


def test_the_folder_that_is_there_first_wins(tmp_path):
    with atomic_folder(tmp_path / "result") as late:
        (late / "file").write_bytes(b"late")
        with atomic_folder(tmp_path / "result") as early:
            (early / "file").write_bytes(b"early")
    assert (tmp_path / "result" / "file").read_bytes() == b"early"
    assert listing(tmp_path) == ["result"]


def test_a_full_disk_is_told_with_the_folder_that_has_no_room(tmp_path):
    for making in (atomic_folder(tmp_path / "result"), scratch_folder(tmp_path / "result")):
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'result'}'"), making:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_settled_is_read_once_though_it_was_written_just_now(tmp_path, monkeypatch):
    read, original = [], references._digest
    monkeypatch.setattr(
        references, "_digest", lambda files, path, *given: read.append(path) or original(files, path, *given)
    )
    file = tmp_path / "file"
    file.write_bytes(b"one")
    assert refer(file).sha256 == refer(file).sha256
    assert len(read) == 2
    assert refer(file, settled=True) == refer(file, settled=True)
    assert len(read) == 3
    file.write_bytes(b"another")
    assert refer(file, settled=True).sha256 == hashlib.sha256(b"another").hexdigest()
