"""How a stage result is written, read and named.

A result is one table (see `schemas`). The schema's metadata carry facts about the result as a whole (JSON under the key
`narrowcast`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from quant_core.errors import InputError
from quant_core.storage.large_tables import read_table
from quant_core.storage.mapped import let_go

__all__ = ["content_digest", "facts", "from_ipc", "to_ipc", "with_facts"]

_DIGEST, _MAGIC = b"sha256", b"ARROW1"

_LARGE = 1 << 25
"""Bytes from which on a table is written part by part."""


def with_facts(table: pa.Table, **facts: Any) -> pa.Table:
    """The table with facts about it as a whole (JSON-able values) added to its metadata."""
    metadata = dict(table.schema.metadata or {})
    known = json.loads(metadata.get(b"narrowcast", b"{}"))
    metadata[b"narrowcast"] = json.dumps(known | facts, sort_keys=True).encode()
    return table.replace_schema_metadata(metadata)


def facts(table: pa.Table) -> Mapping[str, Any]:
    """The facts `with_facts` added."""
    found: Mapping[str, Any] = json.loads((table.schema.metadata or {}).get(b"narrowcast", b"{}"))
    return found


def to_ipc(table: pa.Table) -> bytes:
    """The table as an Arrow IPC file, compressed with zstd, its own digest in the metadata.

    Equal tables give equal bytes.
    """
    plain = _without_digest(_in_one_piece(table))
    metadata = {**(plain.schema.metadata or {}), _DIGEST: content_digest(plain)}
    sink = io.BytesIO()
    with pa.PythonFile(sink, "w") as file:
        _write_ipc(file, plain.replace_schema_metadata(metadata), "zstd")
        _hand_back(plain)
        return sink.getvalue()


def _hand_back(table: pa.Table) -> None:
    """Let Arrow give back to the system what a large table took beside itself: the flow goes on for long."""
    if table.nbytes > _LARGE:
        pa.default_memory_pool().release_unused()


def _in_one_piece(table: pa.Table) -> pa.Table:
    """Return a table whose columns have one chunk each; Arrow would copy those that have it already."""
    return table if all(column.num_chunks == 1 for column in table.columns) else table.combine_chunks()


def _without_digest(table: pa.Table) -> pa.Table:
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != _DIGEST}
    return table.replace_schema_metadata(kept or None)


def content_digest(table: pa.Table) -> bytes:
    """Sha256 of a table's content, schema and facts, in hexadecimal."""
    # Of the uncompressed form: another release of the compressor may write the same content in other bytes.
    sink = _Digest()
    with pa.PythonFile(sink, "w") as file:
        _write_ipc(file, table, None)
    return sink.sha256.hexdigest().encode()


class _Digest(io.RawIOBase):
    """A file that keeps nothing of what is written to it but its digest."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        values = np.frombuffer(data, np.uint8)
        for first in range(0, len(values), _LARGE):
            self.sha256.update(values[first : first + _LARGE].data)
            let_go(values)
        return len(values)


def _write_ipc(sink: Any, table: pa.Table, compression: str | None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        for batch in table.to_batches(max_chunksize=_rows_at_once(table) if compression else None):
            writer.write_batch(batch)
            for buffer in (buffer for column in batch.columns for buffer in column.buffers() if buffer):
                let_go(np.frombuffer(buffer, np.uint8))


def _rows_at_once(table: pa.Table) -> int | None:
    """Rows of a large table that are compressed together: the compressor wants as much memory as they have."""
    return None if table.nbytes <= _LARGE else max(table.num_rows * _LARGE // table.nbytes, 1)


def from_ipc(data: bytes) -> pa.Table:
    """Read what `to_ipc` wrote; raises InputError when the bytes are not a whole Arrow file, or were changed."""
    try:
        if not data.startswith(_MAGIC):  # which Arrow looks for at the end alone
            raise ValueError("it begins with something else")
        table = read_table(pa.ipc.open_file(pa.BufferReader(data)))
        table.validate(full=True)
        plain = _without_digest(_in_one_piece(table))
        intact = (table.schema.metadata or {}).get(_DIGEST) == content_digest(plain)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(f"not an Arrow file: {error}") from error
    _hand_back(plain)
    if not intact:
        raise InputError("an Arrow file whose content is not what was written")
    return plain
