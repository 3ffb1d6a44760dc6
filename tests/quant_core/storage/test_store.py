"""Files at a URL: whole or not there, and asked for again while the store fails."""

import errno
import sys

import fsspec
import pytest

from quant_core.errors import InputError, OutageError
from quant_core.execution.progress import watched_by
from quant_core.storage import retry as outages
from quant_core.storage.retry import may_pass, patiently
from quant_core.storage.store import Store
from tests.watching import Said


@pytest.fixture(params=["local", "memory", "renaming"])
def store(request, tmp_path, monkeypatch):
    if request.param == "renaming":  # as a server that is no object store
        monkeypatch.setattr("quant_core.storage.store._OBJECT_STORES", frozenset())
    yield Store(str(tmp_path / "store") if request.param == "local" else f"memory://{tmp_path.name}/store")
    fsspec.filesystem("memory").store.clear()


def test_a_file_comes_back(store):
    store.write("a/b", b"old")
    store.write("a/b", b"new")
    assert store.read("a/b") == b"new"
    assert store.names("a") == ["b"]


def test_what_is_not_there_is_none(store):
    assert store.read("a") is None
    assert store.names("a") == []
    store.remove("a")


def test_a_removed_file_or_folder_is_gone(store):
    store.write("a/b", b"1")
    store.write("a/c/d", b"2")
    store.remove("a/b")
    assert store.names("a") == ["c/d"]
    store.remove("a")
    assert store.names("a") == []


def test_a_folder_goes_up_and_comes_down(store, tmp_path):
    (tmp_path / "up" / "inner").mkdir(parents=True)
    (tmp_path / "up" / "one").write_bytes(b"1")
    (tmp_path / "up" / "inner" / "two").write_bytes(b"2")
    store.upload("folder", tmp_path / "up")
    assert store.names("folder") == ["inner/two", "one"]
    assert store.download("folder", tmp_path / "down")
    assert (tmp_path / "down" / "inner" / "two").read_bytes() == b"2"
    assert not store.download("nothing", tmp_path / "none") and not (tmp_path / "none").exists()


def test_a_single_file_goes_up(store, tmp_path):
    (tmp_path / "one").write_bytes(b"1")
    store.upload("folder/one", tmp_path / "one")
    assert store.read("folder/one") == b"1"


def test_a_usable_store_is_left_as_it_was(store):
    store.check("workspace")
    assert store.names("") == []


def test_a_store_that_cannot_be_reached_is_refused():
    with pytest.raises(InputError, match="^workspace odd://x: cannot be used: Protocol not known"):
        Store("odd://user:secret@x").check("workspace")


@pytest.mark.parametrize(("url", "package"), {"gs://b/steps": "gcsfs", "abfs://b/steps": "adlfs"}.items())
def test_a_store_whose_package_is_missing_is_refused_by_the_package_s_name(monkeypatch, url, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"^workspace {url}: cannot be used: .*[Ii]nstall {package}[^\n]*$"):
        Store(url).check("workspace")


@pytest.fixture
def slept(monkeypatch):
    """Pauses instead of sleeping; time passes by them alone."""
    pauses = []
    monkeypatch.setattr(outages.time, "sleep", pauses.append)
    monkeypatch.setattr(outages.time, "monotonic", lambda: sum(pauses))
    return pauses


def failing(times, error):
    left = [error] * times

    def call():
        if left:
            raise left.pop()
        return "done"

    return call


PASSING = {
    "server's error": OSError(getattr(errno, "EREMOTEIO", errno.EIO), "internal error"),
    "slow down": OSError(errno.EBUSY, "slow down"),
    "connection reset": ConnectionResetError(errno.ECONNRESET, "reset"),
    "time-out": TimeoutError(),
    "a library's own": type("HTTPClientError", (Exception,), {})("closed"),
    "status 503": type("ResponseError", (Exception,), {"status": 503})("unavailable"),
    "status 429": type("ResponseError", (Exception,), {"status": 429})("too many"),
    "stale handle": OSError(errno.ESTALE, "stale"),
}
LASTING = {
    "not there": FileNotFoundError(errno.ENOENT, "no such bucket"),
    "not allowed": PermissionError("denied"),
    "full disk": OSError(errno.ENOSPC, "No space left on device"),
    "quota": OSError(errno.EDQUOT, "quota"),
    "read-only": OSError(errno.EROFS, "read-only"),
    "bad argument": OSError(errno.EINVAL, "invalid"),
    "bad input": InputError("not a model"),
    "no credentials": type("NoCredentialsError", (Exception,), {})("none"),
    "status 403": type("ResponseError", (Exception,), {"status": 403})("forbidden"),
    "out of memory": MemoryError(),
    "a bug": TypeError("bug"),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_can_pass_is_tried_again_and_it_is_said(kind, slept):
    with watched_by(log := Said()):
        assert patiently(failing(5, PASSING[kind]), "s3://bucket/x") == "done"
    assert len(slept) == 5 and len(log.said) == 5
    assert log.said[0].startswith("s3://bucket/x: ") and "asked again in" in log.said[0]


@pytest.mark.parametrize("kind", LASTING)
def test_what_cannot_pass_is_not_tried_again(kind, slept):
    assert not may_pass(LASTING[kind])
    with pytest.raises(type(LASTING[kind])):
        patiently(failing(1, LASTING[kind]), "s3://bucket/x")
    assert slept == []


def test_pauses_grow_and_are_not_the_same_twice(slept):
    patiently(failing(6, TimeoutError()), "x")
    one = list(slept)
    slept.clear()
    patiently(failing(6, TimeoutError()), "x")
    assert one != slept
    assert all(0.5 * 0.25 * 2**at <= pause <= 0.25 * 2**at for at, pause in enumerate(slept))


def test_a_minute_of_failures_is_survived(slept):
    def call():
        if sum(slept) < 60:
            raise ConnectionResetError
        return "done"

    assert patiently(call, "x") == "done"


def test_what_does_not_end_is_an_outage_without_secrets(slept):
    failure = OSError("down at https://u:secret@h/x?k=secret")
    with pytest.raises(OutageError, match=r"^s3://b: has not answered for \d+ s: down at https://h/x$"):
        patiently(failing(10**6, failure), "s3://user:secret@b")
    assert 120 < sum(slept) < 160


def test_a_store_asks_again(store, slept, monkeypatch):
    store.write("a", b"1")
    if store.folder is None:
        files = fsspec.filesystem("memory")
        calls = [TimeoutError(), ConnectionResetError()]
        whole = type(files).cat_file

        def flaky(self, *arguments, **options):
            if calls:
                raise calls.pop()
            return whole(self, *arguments, **options)

        monkeypatch.setattr(type(files), "cat_file", flaky)
        assert store.read("a") == b"1" and len(slept) == 2
