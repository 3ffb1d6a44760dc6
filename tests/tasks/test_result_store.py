"""What of the store Prefect may rely on."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from prefect._internal.result_records import ResultRecordMetadata

from quant_core.tables import to_ipc
from tasks.arrow import ArrowSerializer
from tasks.result_store import ResultStore
from tasks.step_key import keyed

KEY = "probe-0123"


def stored(workspace: Path, key: str = KEY) -> ResultStore:
    """A store with the whole result of a step, and its record as Prefect writes it."""
    store = ResultStore(workspace)
    for folder in (store.results, store.records):
        folder.mkdir(parents=True, exist_ok=True)
    (store.results / key).write_bytes(to_ipc(keyed(pa.table({"a": [1.0, 2.0]}), key)))
    record = ResultRecordMetadata(storage_key=str((store.results / key).resolve()), serializer=ArrowSerializer())
    (store.records / key).write_bytes(record.dump_bytes())
    return store


def recorded_place(store: ResultStore, key: str = KEY) -> str | None:
    """Where Prefect would read the result, by the serializer that is safe."""
    record = ResultRecordMetadata.load_bytes((store.records / key).read_bytes())
    assert isinstance(record.serializer, ArrowSerializer)
    assert record.expiration is None
    return record.storage_key


def test_a_step_that_was_never_run_is_no_damage(tmp_path):
    assert ResultStore(tmp_path).settle(KEY) is None
    assert not (tmp_path / "records").exists()


def test_a_whole_result_and_its_record_are_left_alone(tmp_path):
    store = stored(tmp_path)
    before = (store.records / KEY).read_bytes()
    assert store.settle(KEY) is None
    assert (store.records / KEY).read_bytes() == before


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = {
    "gone": (Path.unlink, "its file is gone"),
    "empty": (lambda path: path.write_bytes(b""), "not an Arrow file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not an Arrow file"),
    "with a tail": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "not an Arrow file"),
    "another step's": (
        lambda path: path.write_bytes(to_ipc(keyed(pa.table({"a": [1]}), "probe-9"))),
        "it belongs to another step",
    ),
    "a table of nobody's": (lambda path: path.write_bytes(to_ipc(pa.table({"a": [1]}))), "belongs to another step"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps([1])), "not an Arrow file"),
    "a folder": (replaced_by_a_folder, "cannot be read"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_result_is_told_of_and_loses_its_record(tmp_path, how):
    store = stored(tmp_path)
    damage, said = DAMAGE[how]
    damage(store.results / KEY)
    assert said in (store.settle(KEY) or "")
    assert not (store.records / KEY).exists()


def test_no_flipped_byte_or_cut_changes_what_a_result_says(tmp_path):
    store, chance = stored(tmp_path), random.Random(0)
    whole = (store.results / KEY).read_bytes()
    record = (store.records / KEY).read_bytes()
    for _ in range(1000):
        data = bytearray(whole)
        at = chance.randrange(len(data))
        if chance.random() < 0.5:
            data[at] ^= 1 << chance.randrange(8)
        else:
            del data[at:]
        (store.results / KEY).write_bytes(data)
        (store.records / KEY).write_bytes(record)
        if store.settle(KEY) is None:  # padding that nothing reads
            assert ArrowSerializer().loads(bytes(data)).equals(ArrowSerializer().loads(whole))


def test_a_half_written_result_of_an_unfinished_step_is_not_worth_a_word(tmp_path):
    store = stored(tmp_path)
    (store.records / KEY).unlink()
    (store.results / KEY).write_bytes(b"ARR")
    assert store.settle(KEY) is None
    assert not (store.records / KEY).exists()


def test_a_whole_result_that_a_kill_left_without_a_record_gets_one(tmp_path):
    store = stored(tmp_path)
    (store.records / KEY).unlink()
    assert store.settle(KEY) is None
    assert recorded_place(store) == str(store.results / KEY)


def record(store: ResultStore, **changed: object) -> bytes:
    return json.dumps(json.loads((store.records / KEY).read_bytes()) | changed).encode()


FOREIGN = {
    "pickle as its serializer": lambda store: record(store, serializer={"type": "pickle"}),
    "no serializer, which is pickle": lambda store: record(store, serializer=None),
    "its own module to unpickle with": lambda store: record(
        store, serializer={"type": "pickle", "picklelib": "antigravity"}
    ),
    "a compressed pickle": lambda store: record(
        store, serializer={"type": "compressed", "serializer": {"type": "pickle"}}
    ),
    "another file": lambda store: record(store, storage_key="/etc/passwd"),
    "a storage block": lambda store: record(store, storage_block_id="6a0e5a6c-9f35-4c3e-9a3b-7f4a4b1a1a1a"),
    "an end": lambda store: record(store, expiration="2001-01-01T00:00:00Z"),
    "a pickle in its place": lambda store: pickle.dumps({"a": 1}),
    "a list in its place": lambda store: b"[]",
    "nothing in it": lambda store: b"",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_record_is_replaced(tmp_path, what):
    store = stored(tmp_path)
    (store.records / KEY).write_bytes(FOREIGN[what](store))
    assert store.settle(KEY) is None
    assert recorded_place(store) == str(store.results / KEY)


def test_a_workspace_may_be_moved(tmp_path):
    stored(tmp_path / "old")
    shutil.move(tmp_path / "old", tmp_path / "new")
    store = ResultStore(tmp_path / "new")
    assert store.settle(KEY) is None
    assert recorded_place(store) == str(tmp_path / "new" / "results" / KEY)


def test_a_workspace_reached_by_a_link_has_one_name(tmp_path):
    stored(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    before = (tmp_path / "real" / "records" / KEY).read_bytes()
    assert ResultStore(tmp_path / "link").settle(KEY) is None
    assert (tmp_path / "real" / "records" / KEY).read_bytes() == before
