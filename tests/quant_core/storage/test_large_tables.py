"""Large tables are read onto disk."""

import numpy as np
import pyarrow as pa
import pytest

from quant_core.errors import InputError
from quant_core.storage import mapped, tables


def rows(dtype, width=3, count=40):
    values = np.random.default_rng(0).integers(0, 9, count * width).astype(dtype)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), width)


COLUMNS = {
    "rows of floats": ({"y": rows(np.float32), "z": rows(np.float16, 1)}, True),
    "rows of integers": ({"y": rows(np.int64)}, True),
    "rows of unlike length": ({"y": pa.array([[1.0], [2.0, 3.0]] * 20)}, False),
    "texts": ({"y": pa.array(["a", "b"] * 20)}, False),
    "a missing row": ({"y": pa.array([None, *[[1.0, 2.0]] * 39], pa.list_(pa.float64(), 2))}, False),
}


@pytest.mark.parametrize(("columns", "on_disk"), COLUMNS.values(), ids=COLUMNS.keys())
def test_a_large_table_is_read_as_it_was_written(columns, on_disk, monkeypatch):
    monkeypatch.setattr(tables, "_LARGE", 40)
    table = tables.with_facts(pa.table(columns), shape=[3])
    found = tables.from_ipc(tables.to_ipc(table))
    assert found.equals(table, check_metadata=True)
    assert all(column.num_chunks == 1 for column in found.columns)
    if on_disk:
        address = found.column(0).chunk(0).flatten().to_numpy().__array_interface__["data"][0]
        assert address in mapped._mapped


def test_a_large_table_that_was_changed_is_refused(monkeypatch):
    monkeypatch.setattr(tables, "_LARGE", 40)
    data = bytearray(tables.to_ipc(pa.table({"y": rows(np.float32)})))
    data[len(data) // 2] ^= 1
    with pytest.raises(InputError):
        tables.from_ipc(bytes(data))
