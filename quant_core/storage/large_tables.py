"""Large tables, read onto disk: reading one takes the memory of a batch of its rows."""

from __future__ import annotations

from contextlib import ExitStack
from tempfile import TemporaryFile

import pyarrow as pa

from quant_core.storage.mapped import mapped_stream

__all__ = ["read_table"]


def read_table(file: pa.RecordBatchFileReader) -> pa.Table:
    """Return the table of an Arrow file: on disk where it is large and that can be, or else in memory."""
    on_disk = _table_on_disk(file)
    return file.read_all() if on_disk is None else on_disk


def _table_on_disk(file: pa.RecordBatchFileReader) -> pa.Table | None:
    """Return the table of an Arrow file, its values in files without a name that are gone with it.

    None where it is one batch, or has other columns than lists of numbers of one length. Raises ArrowInvalid for a
    batch that is damaged.
    """
    schema = file.schema
    if file.num_record_batches < 2 or not all(_is_rows_of_numbers(kind) for kind in schema.types):
        return None
    with ExitStack() as stack:
        sinks = [stack.enter_context(TemporaryFile()) for _ in schema]
        count = 0
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            batch.validate(full=True)
            count += batch.num_rows
            for sink, column in zip(sinks, batch.columns, strict=True):
                if column.null_count or column.values.null_count:
                    return None
                sink.write(column.flatten().to_numpy().data)
        columns = []
        for sink, kind in zip(sinks, schema.types, strict=True):
            values = mapped_stream(sink, kind.value_type.to_pandas_dtype(), (count * kind.list_size,))
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind))
        return pa.Table.from_arrays(columns, schema=schema)


def _is_rows_of_numbers(kind: pa.DataType) -> bool:
    if not pa.types.is_fixed_size_list(kind):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
