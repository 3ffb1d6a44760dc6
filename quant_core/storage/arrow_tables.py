"""Arrow and Parquet files, and data sets that Hugging Face's `datasets` saved to disk.

Columns that hold no numbers (texts, say) are passed over; columns of pictures are decoded where a form of pictures asks
for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.storage.data_forms import LABELS, DataForm, PictureForm
from quant_core.storage.pictures import picture_array

__all__ = ["arrow_columns", "parquet_columns", "saved_files"]

Chunk = tuple[str, NDArray[np.generic]]

_STATE, _SPLITS = "state.json", "dataset_dict.json"
"""Files of a saved data set, and of a folder of several."""


def saved_files(folder: Path, source: str) -> list[Path] | None:
    """Return the files of a data set that `save_to_disk` wrote, in order; None for another folder.

    Other files may lie beside them: `datasets` keeps what it has computed there. Raises InputError for a folder of
    several splits.
    """
    if (folder / _SPLITS).is_file():
        splits = sorted(found.parent.name for found in folder.glob(f"*/{_STATE}"))
        raise InputError(
            f"{source}: holds several data sets; give one of them: {', '.join(splits) or 'none was found'}"
        )
    if not (folder / _STATE).is_file():
        return None
    try:
        names = [str(file["filename"]) for file in json.loads((folder / _STATE).read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{source}: its {_STATE} is not that of a saved data set") from error
    if any(Path(name).name != name for name in names):
        raise InputError(f"{source}: its {_STATE} names files outside the folder")
    return [folder / name for name in names]


def parquet_columns(path: Path, source: str, form: DataForm | None) -> Iterator[Chunk]:
    """Yield (column, some of its samples) of a Parquet file."""
    from pyarrow.parquet import ParquetFile  # most data is something else

    with ParquetFile(path) as file:
        wanted = _wanted(file.schema_arrow, source, form)
        for batch in file.iter_batches(batch_size=256, columns=wanted):
            yield from _batch_columns(batch, source, form, wanted)


def arrow_columns(path: Path, source: str, form: DataForm | None) -> Iterator[Chunk]:
    """Yield (column, some of its samples) of an Arrow file, or of a stream as `datasets` writes it."""
    with pa.memory_map(str(path)) as stored:
        magic = stored.read(6)
        stored.seek(0)
        if magic == b"ARROW1":
            with pa.ipc.open_file(stored) as file:
                wanted = _wanted(file.schema, source, form)
                for number in range(file.num_record_batches):
                    yield from _batch_columns(file.get_batch(number), source, form, wanted)
        else:
            with pa.ipc.open_stream(stored) as stream:
                wanted = _wanted(stream.schema, source, form)
                for batch in stream:
                    yield from _batch_columns(batch, source, form, wanted)


def _wanted(schema: pa.Schema, source: str, form: DataForm | None) -> list[str]:
    """Return the columns that are read; raises InputError where there is none."""
    kinds = dict(zip(schema.names, schema.types, strict=True))
    if isinstance(form, PictureForm):
        return [_picture_column(kinds, source, form), *(name for name in kinds if name == form.labels)]
    numbers = [name for name, kind in kinds.items() if _holds_numbers(kind)]
    if numbers:
        return numbers
    listed = ", ".join(f"{name} is {kind}" for name, kind in kinds.items()) or "it has no column"
    hint = "; for pictures, give --image-size" if any(map(_holds_pictures, kinds.values())) else ""
    raise InputError(f"{source}: {listed}, not an array of numbers{hint}")


def _picture_column(kinds: Mapping[str, pa.DataType], source: str, form: PictureForm) -> str:
    """Return the column of pictures: the only one, or the one with the name of the input."""
    pictures = [name for name, kind in kinds.items() if _holds_pictures(kind)]
    if form.input in pictures or len(pictures) == 1:
        return form.input if form.input in pictures else pictures[0]
    why = "several columns of pictures, and none has the name of" if pictures else "no column of pictures for"
    raise InputError(f"{source}: has {why} the model input {form.input!r}; it has {', '.join(kinds)}")


def _holds_pictures(kind: pa.DataType) -> bool:
    """Return whether a column holds encoded pictures, as the `Image` feature of `datasets` has them."""
    return bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _holds_numbers(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    while _is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _batch_columns(batch: pa.RecordBatch, source: str, form: DataForm | None, wanted: Sequence[str]) -> Iterator[Chunk]:
    for name in wanted if batch.num_rows else ():
        column = batch.column(name)
        if column.null_count:
            raise ValueError(f"column {name} has a null")
        if isinstance(form, PictureForm) and _holds_pictures(column.type):
            yield from ((form.input, array) for array in _decoded(column, f"{source}: column {name}", form))
        elif isinstance(column, pa.FixedShapeTensorArray):
            yield name, column.to_numpy_ndarray()
        else:
            values = column.storage if isinstance(column, pa.ExtensionArray) else column
            yield from ((_label_name(name, form), array) for array in _arrays(name, values))


def _label_name(name: str, form: DataForm | None) -> str:
    return LABELS if isinstance(form, PictureForm) and name == form.labels else name


def _decoded(column: pa.StructArray, name: str, form: PictureForm) -> Iterator[NDArray[np.generic]]:
    for row, content in enumerate(column.field("bytes")):
        if not content.is_valid:
            raise InputError(
                f"{name}: picture {row} is elsewhere, and not in the file; save the data with save_to_disk"
            )
        yield picture_array(content.as_py(), form, f"{name}: picture {row}")[None]


def _arrays(name: str, column: pa.Array) -> Iterator[NDArray[np.generic]]:
    """Yield a column, nested lists among them, as one array, or where lengths differ, an array a sample."""
    dense = _dense(name, column)
    if dense is not None:
        yield dense
    else:
        yield from (array for row in range(len(column)) for array in _arrays(name, column.slice(row, 1)))


def _dense(name: str, column: pa.Array) -> NDArray[np.generic] | None:
    """Return lists of equal lengths on each level as an array; None where those of different samples differ."""
    import pyarrow.compute as pc  # which takes longer to import than a small file to read

    shape = [len(column)]
    while _is_list(column.type):
        lengths = pc.list_value_length(column)
        bounds = pc.min_max(lengths)
        if bounds["min"].as_py() != bounds["max"].as_py():
            if shape[0] == 1:
                raise ValueError(f"column {name} has lists of different lengths inside of a sample")
            return None
        shape.append(bounds["max"].as_py() or 0)
        column = column.flatten()
        if column.null_count and not pa.types.is_floating(column.type):  # there it is a NaN, refused with its sample
            raise ValueError(f"column {name} has a null")
    values: NDArray[np.generic] = column.to_numpy(zero_copy_only=False)
    return values.reshape(shape)
