"""Tables: those that `datasets` saved, columns of texts and pictures, nested lists."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from quant_core.errors import InputError
from quant_core.storage.data import open_columns, refer_data
from quant_core.storage.data_forms import ColumnForm, PictureForm

IDS = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
TABLE = pa.table(
    {
        "text": ["a", "b", "c"],
        "input_ids": pa.array(IDS, pa.list_(pa.int32())),
        "label": pa.array([2, 0, 1], pa.int64()),
        "idx": pa.array([0, 1, 2], pa.int32()),
    }
)
TOKENS = ColumnForm(labels="label", types=(("input_ids", "int64"),))


def saved(folder, table, files=2):
    """A folder as `Dataset.save_to_disk` writes it: Arrow streams that state.json lists."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    rows = -(-table.num_rows // files)
    for number, name in enumerate(names):
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table.slice(number * rows, rows))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def opened(source, tmp_path, form=None):
    return open_columns(refer_data(source, tmp_path / "cache", form), tmp_path / "cache")


def test_a_saved_data_set_is_read_by_the_files_it_lists(tmp_path):
    folder = saved(tmp_path / "set", TABLE)
    with pa.ipc.new_stream(folder / "cache-1234.arrow", TABLE.schema) as stream:  # what a map left there
        stream.write_table(TABLE)
    data = opened(folder, tmp_path, TOKENS)
    assert (data.count, list(data.columns)) == (3, ["input_ids", "idx"])
    assert data.columns["input_ids"].dtype == np.int64
    np.testing.assert_array_equal(data.columns["input_ids"], IDS)
    assert data.labels.tolist() == [2, 0, 1]


def test_what_datasets_itself_saves_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "pixels": datasets.Array2D((2, 2), "float32"),
            "input_ids": datasets.Sequence(datasets.Value("int32")),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "text": datasets.Value("string"),
        }
    )
    values = {"pixels": np.arange(12, dtype=np.float32).reshape(3, 2, 2), "input_ids": IDS}
    given = datasets.Dataset.from_dict({**values, "label": [1, 0, 1], "text": ["a"] * 3}, features)
    given.save_to_disk(str(tmp_path / "set"))
    given.to_parquet(str(tmp_path / "set.parquet"))
    for place in (tmp_path / "set", tmp_path / "set.parquet"):
        data = opened(place, tmp_path, TOKENS)
        np.testing.assert_array_equal(data.columns["pixels"], values["pixels"])
        np.testing.assert_array_equal(data.columns["input_ids"], IDS)
        assert data.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("end", ["parquet", "arrow"])
def test_columns_that_hold_no_numbers_are_passed_over(end, tmp_path):
    path = tmp_path / f"data.{end}"
    if end == "parquet":
        pa.parquet.write_table(TABLE, path)
    else:
        with pa.ipc.new_stream(path, TABLE.schema) as stream:
            stream.write_table(TABLE)
    assert list(opened(path, tmp_path).columns) == ["input_ids", "label", "idx"]


def test_nested_lists_are_arrays_and_may_differ_between_samples(tmp_path):
    kind = pa.list_(pa.list_(pa.float32()))
    even = pa.table({"x": pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], kind)})
    pa.parquet.write_table(even, tmp_path / "even.parquet")
    np.testing.assert_array_equal(
        opened(tmp_path / "even.parquet", tmp_path).columns["x"], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    )
    uneven = pa.table({"x": pa.array([[[1, 2], [3, 4]], [[5, 6]]], kind)})
    pa.parquet.write_table(uneven, tmp_path / "uneven.parquet")
    column = opened(tmp_path / "uneven.parquet", tmp_path).columns["x"]
    assert column.shapes == [(2, 2), (1, 2)]
    np.testing.assert_array_equal(column.sample(1), [[5, 6]])


def encoded(pixels):
    Image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_a_column_of_pictures_is_decoded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    table = pa.table({"image": [encoded(one) for one in pixels], "label": [1, 0], "path": ["a", "b"]})
    form = PictureForm(input="x", type="uint8", channels=3, channels_last=True, height=4, width=4, labels="label")
    data = opened(saved(tmp_path / "set", table), tmp_path, form)
    np.testing.assert_array_equal(data.columns["x"], pixels)
    assert data.labels.tolist() == [1, 0]


PICTURES = PictureForm(input="x", type="uint8", channels=3, channels_last=True, height=4, width=4)
UNUSABLE = {
    "no such label column": (
        TABLE,
        ColumnForm(labels="answer"),
        "has no column 'answer' for the labels; it has input_ids, label, idx",
    ),
    "no numbers": (TABLE.select(["text"]), None, "text is string, not an array of numbers"),
    "no pictures": (
        TABLE,
        PICTURES,
        "has no column of pictures for the model input 'x'; it has text, input_ids, label, idx",
    ),
    "unequal inside a sample": (
        pa.table({"x": [[[1.0], [2.0, 3.0]]]}),
        None,
        "column x has lists of different lengths inside of a sample",
    ),
    "nothing": (pa.table({}), None, "it has no column"),
}


@pytest.mark.parametrize(("table", "form", "line"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_tables_are_refused_in_one_line(table, form, line, tmp_path):
    with pytest.raises(InputError) as caught:
        opened(saved(tmp_path / "set", table), tmp_path, form)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_several_data_sets_is_refused(tmp_path):
    for split in ("train", "test"):
        saved(tmp_path / "sets" / split, TABLE)
    (tmp_path / "sets/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(InputError, match="give one of them: test, train"):
        opened(tmp_path / "sets", tmp_path)


@pytest.mark.parametrize("state", ["[]", "{", '{"_data_files": [{"filename": "../secret.arrow"}]}'])
def test_a_damaged_list_of_files_is_refused(state, tmp_path):
    saved(tmp_path / "set", TABLE)
    (tmp_path / "set/state.json").write_text(state)
    with pytest.raises(InputError, match=r"its state\.json"):
        opened(tmp_path / "set", tmp_path)
