"""Stage results: schemas, facts, and the bytes they are kept as."""

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from quant_core.errors import InputError
from quant_core.storage import schemas
from quant_core.storage.schemas import SCHEMA_VERSION
from quant_core.storage.tables import content_digest, facts, from_ipc, to_ipc, with_facts

SCHEMAS = {name: value for name, value in vars(schemas).items() if isinstance(value, pa.Schema)}


def example():
    columns = {
        "number": np.linspace(0, 1, 30),
        "text": [str(value) for value in range(30)],
        "list": [list(range(value % 4)) for value in range(30)],
        "optional": [None if value % 3 else value for value in range(30)],
    }
    return with_facts(pa.table(columns), prepared="0123", metric=0.5)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_says_its_name_and_version(name):
    assert SCHEMAS[name].metadata == {b"schema": f"{name.lower()}/{SCHEMA_VERSION}".encode()}
    assert name in schemas.__all__


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_empty_table_of_each_schema_reads_back(name):
    table = SCHEMAS[name].empty_table()
    assert from_ipc(to_ipc(table)).equals(table, check_metadata=True)


def test_a_table_reads_back_with_its_facts():
    table = from_ipc(to_ipc(example()))
    assert table.equals(example(), check_metadata=True)
    assert facts(table) == {"prepared": "0123", "metric": 0.5}


def test_a_table_without_metadata_reads_back():
    table = pa.table({"a": [1, 2]})
    assert from_ipc(to_ipc(table)).equals(table, check_metadata=True)
    assert facts(table) == {}


def test_reading_back_what_was_read_gives_the_same_bytes():
    data = to_ipc(example())
    assert to_ipc(from_ipc(data)) == data


def test_equal_tables_give_equal_bytes_however_they_are_chunked_or_sliced():
    whole = example()
    chunked = pa.concat_tables([whole.slice(0, 7), whole.slice(7)])
    inside = pa.concat_tables([whole, whole]).combine_chunks().slice(30)
    assert to_ipc(chunked) == to_ipc(inside) == to_ipc(whole)


@pytest.mark.parametrize(
    "other",
    [example().set_column(0, "number", [np.linspace(0, 2, 30)]), with_facts(example(), metric=0.25)],
    ids=["another value", "another fact"],
)
def test_other_tables_give_other_bytes(other):
    assert to_ipc(other) != to_ipc(example())


def test_facts_add_up_and_keep_the_schemas_name():
    table = with_facts(with_facts(schemas.LAYERS.empty_table(), one=1, two=2), two=3)
    assert facts(table) == {"one": 1, "two": 3}
    assert table.schema.metadata[b"schema"] == schemas.LAYERS.metadata[b"schema"]


def test_the_order_facts_are_added_in_does_not_show():
    empty = schemas.LAYERS.empty_table()
    assert to_ipc(with_facts(empty, a=1, b=2)) == to_ipc(with_facts(with_facts(empty, b=2), a=1))


def test_another_compression_of_the_same_content_is_read():
    """Whoever wrote it may have had another release of Arrow."""
    stored = pa.ipc.open_file(pa.BufferReader(to_ipc(example()))).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, stored.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(stored)
    assert from_ipc(bytes(sink.getvalue())).equals(example(), check_metadata=True)


def test_a_large_table_is_written_part_by_part_and_is_the_same(monkeypatch):
    table, whole = example(), content_digest(example())
    small = to_ipc(table)
    monkeypatch.setattr("quant_core.storage.tables._LARGE", table.nbytes // 2)
    data = to_ipc(table)
    assert pa.ipc.open_file(pa.BufferReader(data)).num_record_batches > 1 and data != small
    again = from_ipc(data)
    assert again.equals(from_ipc(small), check_metadata=True) and content_digest(again) == whole
    assert all(column.num_chunks == 1 for column in again.columns)


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(share):
    data = to_ipc(example())
    with pytest.raises(InputError):
        from_ipc(data[: int(len(data) * share)])


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF], ids=hex)
def test_a_flipped_byte_is_refused_unless_nothing_hangs_on_it(mask):
    data = to_ipc(example())
    refused = 0
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= mask
        try:
            assert from_ipc(bytes(damaged)).equals(example(), check_metadata=True)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(data) / 6


@pytest.mark.parametrize(
    "data", [b"", b"ARROW1", b"PK\x03\x04" * 100, b"\x80\x04\x95"], ids=["empty", "magic alone", "zip", "pickle"]
)
def test_what_is_no_arrow_file_is_refused(data):
    with pytest.raises(InputError, match="not an Arrow file"):
        from_ipc(data)


def test_an_arrow_file_that_to_ipc_did_not_write_is_refused():
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, example().schema) as writer:
        writer.write_table(example())
    with pytest.raises(InputError, match="not what was written"):
        from_ipc(bytes(sink.getvalue()))
