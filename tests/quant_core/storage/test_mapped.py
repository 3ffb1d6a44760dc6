"""Arrays on disk: what was read of them is given back."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from quant_core.storage import mapped
from quant_core.storage.mapped import let_go, mapped_file, spilled
from quant_core.storage.ragged import RaggedColumn

VALUES = 4 << 20
"""Of float32: 16 MiB."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells what is in memory on Linux only")


def in_memory() -> int:
    """Bytes of files that count as this process's memory."""
    return int(Path("/proc/self/status").read_text().partition("RssFile:")[2].split()[0]) << 10


@needs_proc
def test_pages_that_were_read_are_given_back(tmp_path):
    np.ones(VALUES, np.float32).tofile(tmp_path / "values")
    array = mapped_file(tmp_path / "values", "float32", (VALUES,))
    before = in_memory()
    assert array.sum() == VALUES
    assert in_memory() > before + 3 * VALUES
    let_go(array[VALUES // 2 :].reshape(2, -1))  # of a part
    assert in_memory() < before + VALUES
    assert array.sum() == VALUES


@needs_proc
def test_what_was_written_stays_on_disk(tmp_path):
    array = spilled(tmp_path, "float32", (4, VALUES // 4))
    before = in_memory()
    array[:] = np.arange(4, dtype=np.float32)[:, None]
    let_go(RaggedColumn(array.ravel(), [(4, (VALUES // 4,))]))
    assert in_memory() < before + VALUES
    assert array[:, 7].tolist() == [0, 1, 2, 3]


def test_a_spilled_array_leaves_no_file_and_is_forgotten(tmp_path):
    array = spilled(tmp_path, "float32", (3, 5))
    address = mapped._address(array)
    assert address in mapped._mapped
    assert list(tmp_path.iterdir()) == []
    del array
    gc.collect()
    assert address not in mapped._mapped


def test_an_array_of_no_values_needs_no_file(tmp_path):
    assert spilled(tmp_path, "float32", (3, 0)).shape == (3, 0)


def test_other_arrays_stay_as_they_are():
    array = np.arange(10)
    let_go(array)
    assert array.tolist() == list(range(10))


def test_files_are_mapped_in_one_thread_while_another_gives_pages_back(tmp_path):
    held = [spilled(tmp_path, "float32", (1,)) for _ in range(200)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            more = pool.submit(lambda: [spilled(tmp_path, "float32", (1,)) for _ in range(300)])
            while not more.done():
                let_go(held[0])
            more.result()
    finally:
        sys.setswitchinterval(before)
