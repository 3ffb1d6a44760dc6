"""What of the store is taken for a result."""

from __future__ import annotations

import errno
import pickle
import random
from pathlib import Path

import pyarrow as pa
import pytest
from prefect._internal.result_records import ResultRecordMetadata

from quant_core.errors import InputError
from quant_core.storage.store import Store
from quant_core.storage.tables import to_ipc
from tasks.cache.arrow import ArrowSerializer
from tasks.cache.keys import with_key
from tasks.cache.result_store import ResultStore
from tasks.cache.stored_result import StoredResult

KEY = "probe-0123"
TABLE = with_key(pa.table({"a": [1.0, 2.0]}), KEY)


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    """A store with the result of a step."""
    url = str(tmp_path / "results") if request.param == "local" else f"memory://{tmp_path}/results"
    store = ResultStore(Store(url))
    store.put(KEY, TABLE)
    return store


def test_a_step_that_was_never_run_is_no_damage(store):
    found = store.find("probe-9")
    assert found.payload is None and found.flaw is None


def test_a_result_comes_back_whole(store):
    assert store.find(KEY).payload == to_ipc(TABLE)
    assert store.find(KEY).flaw is None
    assert store.load(KEY).equals(TABLE)


def test_a_later_result_takes_the_place_of_an_earlier_one(store):
    later = with_key(pa.table({"a": [3.0]}), KEY)
    store.put(KEY, later)
    assert store.load(KEY).equals(later)


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = {
    "empty": (lambda data: b"", "not an Arrow file"),
    "truncated": (lambda data: data[:-1], "not an Arrow file"),
    "with a tail": (lambda data: data + b"x", "not an Arrow file"),
    "another step's": (lambda data: to_ipc(with_key(pa.table({"a": [1]}), "probe-9")), "it belongs to another step"),
    "a table of nobody's": (lambda data: to_ipc(pa.table({"a": [1]})), "belongs to another step"),
    "a pickle": (lambda data: pickle.dumps([1]), "not an Arrow file"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_result_is_told_of_and_not_used(store, how):
    damage, said = DAMAGE[how]
    store.place.write(KEY, damage(to_ipc(TABLE)))
    found = store.find(KEY)
    assert found.payload is None and said in found.flaw
    with pytest.raises(InputError, match=said):
        store.load(KEY)


def test_a_folder_in_the_place_of_a_result_is_told_of(tmp_path):
    (tmp_path / KEY).mkdir()
    assert "cannot be read" in ResultStore(Store(str(tmp_path))).find(KEY).flaw


def test_no_flipped_byte_or_cut_changes_what_a_result_says(tmp_path):
    store, chance, whole = ResultStore(Store(str(tmp_path))), random.Random(0), to_ipc(TABLE)
    for _ in range(1000):
        data = bytearray(whole)
        at = chance.randrange(len(data))
        if chance.random() < 0.5:
            data[at] ^= 1 << chance.randrange(8)
        else:
            del data[at:]
        (tmp_path / KEY).write_bytes(data)
        found = store.find(KEY)
        if found.payload is not None:  # padding that nothing reads
            assert ArrowSerializer().loads(found.payload).equals(TABLE)


def test_a_result_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    store = ResultStore(Store(str(tmp_path)))
    with pytest.raises(OSError, match="No space left"):
        store.put(KEY, TABLE)
    assert list(tmp_path.iterdir()) == []


def test_prefect_reads_a_stored_result_as_arrow_whatever_is_in_the_store():
    stored = StoredResult(payload=to_ipc(TABLE))
    record = ResultRecordMetadata.load_bytes(stored.read_path(KEY))
    assert isinstance(record.serializer, ArrowSerializer) and record.expiration is None
    assert record.serializer.loads(stored.read_path(record.storage_key)).equals(TABLE)


def test_prefect_finds_nothing_where_nothing_whole_is_stored():
    with pytest.raises(ValueError, match="not stored"):
        StoredResult().read_path(KEY)
