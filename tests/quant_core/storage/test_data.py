"""Data sets in every format, and one line of explanation for every way one can be unusable."""

import contextlib
import io
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from quant_core.errors import InputError
from quant_core.storage.data import open_dataset, refer_data
from quant_core.storage.references import refer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3, 4)).astype(np.float32)
MASK = RNG.integers(0, 5, (10, 2)).astype(np.int64)
LABELS = np.arange(10, dtype=np.int64) % 3
ARRAYS = {"x": X, "mask": MASK, "labels": LABELS}


def arrow_table(arrays):
    columns = {
        name: pa.FixedShapeTensorArray.from_numpy_ndarray(array) if array.ndim > 1 else pa.array(array)
        for name, array in arrays.items()
    }
    return pa.table(columns)


def npz(path):
    np.savez(path / "data.npz", **ARRAYS)
    return path / "data.npz"


def npz_compressed(path):
    np.savez_compressed(path / "data.npz", **ARRAYS)
    return path / "data.npz"


def npz_shards(path):
    for number, part in enumerate((slice(0, 4), slice(4, 5), slice(5, 10))):
        np.savez(path / f"{number}.npz", **{name: array[part] for name, array in ARRAYS.items()})
    return path


def npy_folder(path):
    for name, array in ARRAYS.items():
        np.save(path / f"{name}.npy", array)
    (path / "README.txt").write_text("not data")
    return path


def parquet(path):
    pa.parquet.write_table(arrow_table(ARRAYS), path / "data.parquet", row_group_size=3)
    return path / "data.parquet"


def arrow(path):
    table = arrow_table(ARRAYS)
    with pa.ipc.new_file(path / "data.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return path / "data.arrow"


def url(path):
    return f"file://{npz(path)}"


def in_memory(path):
    return ARRAYS


def fortran_in_memory(path):
    return {name: np.asfortranarray(array) for name, array in ARRAYS.items()}


class Reader:
    def __init__(self, arrays, size):
        self.batches = [{n: a[i : i + size] for n, a in arrays.items()} for i in range(0, 10, size)]

    def get_next(self):
        return self.batches.pop(0) if self.batches else None


def calibration_data_reader(path):
    return Reader(ARRAYS, 4)


FORMATS = [
    npz,
    npz_compressed,
    npz_shards,
    npy_folder,
    parquet,
    arrow,
    url,
    in_memory,
    fortran_in_memory,
    calibration_data_reader,
]
formats = pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def opened(source, tmp_path):
    return open_dataset(refer_data(source, tmp_path / "cache"), tmp_path / "cache")


@formats
def test_the_same_values_come_out_of_every_format(write, place, tmp_path):
    data = opened(write(place), tmp_path)
    assert (data.count, set(data.columns)) == (10, {"x", "mask"})
    for name, array in data.columns.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])
    np.testing.assert_array_equal(data.labels, LABELS)


@formats
def test_the_digest_depends_on_the_content_alone(write, place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    references = [refer_data(write(folder), tmp_path / "cache") for folder in (place, tmp_path / "elsewhere")]
    assert references[0].sha256 == references[1].sha256


@pytest.mark.parametrize("write", [npz, npz_shards, npy_folder], ids=lambda write: write.__name__)
def test_the_digest_changes_with_one_value(write, place, monkeypatch):
    before = refer(write(place)).sha256
    changed = X.copy()
    changed[3, 1, 2] += 1
    monkeypatch.setitem(ARRAYS, "x", changed)
    assert refer(write(place)).sha256 != before


def test_a_batch_holds_the_samples_asked_for(place, tmp_path):
    batch = opened(npz(place), tmp_path).batch(np.array([8, 9]))
    np.testing.assert_array_equal(batch["x"], X[8:])
    assert batch["x"].flags.c_contiguous
    assert "labels" not in batch


def test_opening_again_reads_the_unpacked_columns(place, tmp_path):
    reference = refer_data(npz(place), tmp_path / "cache")
    open_dataset(reference, tmp_path / "cache")
    (place / "data.npz").unlink()
    np.testing.assert_array_equal(open_dataset(reference, tmp_path / "cache").columns["x"], X)


def test_values_are_mapped_and_cannot_be_changed(place, tmp_path):
    data = opened(npz(place), tmp_path)
    assert isinstance(data.columns["x"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.columns["x"][0] = 0


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a/b:0", "labels/x", "../up", "é"])
def test_an_input_may_have_any_name(name, tmp_path):
    data = opened({name: X}, tmp_path)
    np.testing.assert_array_equal(data.columns[name], X)


def test_a_foreign_byte_order_is_turned_into_our_own(tmp_path):
    data = opened({"x": X.astype(">f4")}, tmp_path)
    assert data.columns["x"].dtype == np.float32
    np.testing.assert_array_equal(data.columns["x"], X)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.uint8, np.int32, bool], ids=lambda kind: kind.__name__)
def test_a_type_is_kept(kind, tmp_path):
    values = RNG.integers(0, 2, (4, 3)).astype(kind)
    data = opened({"x": values}, tmp_path)
    assert data.columns["x"].dtype == kind
    np.testing.assert_array_equal(data.columns["x"], values)


@pytest.mark.parametrize("compress", [False, True], ids=["stored", "compressed"])
def test_no_array_is_in_memory_whole(compress, place, tmp_path):
    large = np.zeros((64, 1 << 19), np.uint8)  # 32 MiB, in chunks of 4
    (np.savez_compressed if compress else np.savez)(place / "data.npz", x=large)
    reference = refer(place / "data.npz")
    tracemalloc.start()
    data = open_dataset(reference, tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.count == 64
    assert peak < large.nbytes / 2


@pytest.mark.parametrize("unused", [Reader(ARRAYS, 0x7FFF), Reader({}, 0x7FFF)], ids=["used up", "without arrays"])
def test_a_reader_that_gives_nothing_is_refused(unused, tmp_path):
    unused.get_next()
    with pytest.raises(InputError, match="handed out no batch"):
        refer_data(unused, tmp_path)


@pytest.mark.parametrize("source", [X, 3, None, [X]], ids=["bare array", "number", "None", "list"])
def test_what_is_no_data_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="give a path, arrays by input name, or an object with get_next"):
        refer_data(source, tmp_path)


def test_messages_call_data_in_memory_by_their_role(tmp_path):
    reference = refer_data({"x": X, "z": X[1:]}, tmp_path, role="calibration")
    with pytest.raises(InputError, match="^calibration data: arrays are of different length"):
        open_dataset(reference, tmp_path)


def test_nothing_but_the_data_stays_in_the_cache(tmp_path):
    reference = refer_data(ARRAYS, tmp_path)
    assert [file.name for file in (tmp_path / "given").iterdir()] == [reference.sha256]


def broken(name, content):
    def write(path):
        (path / name).write_bytes(content)
        return path / name

    return write


def npy_bytes(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def npz_bytes(save=np.savez, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def arrow_file(**columns):
    def write(path):
        table = pa.table(columns)
        with pa.ipc.new_file(path / "data.arrow", table.schema) as writer:
            writer.write_table(table)
        return path / "data.arrow"

    return write


def npz_with_a_flipped_byte():
    data = bytearray(npz_bytes(np.savez_compressed, x=X))
    data[200] ^= 0xFF
    return bytes(data)


def two_shards(**second):
    def write(path):
        np.savez(path / "0.npz", x=X)
        np.savez(path / "1.npz", **second)
        return path

    return write


def holed(value, dtype=np.float32):
    values = np.zeros((2000, 1500), dtype)
    values[1234, 7] = value
    return values


EXPLODING = b"cos\nsystem\n(S'touch exploded'\ntR."

UNUSABLE = {
    "missing file": (lambda path: path / "nowhere.npz", "no such file or folder"),
    "missing folder in a url": (lambda path: f"file://{path}/nowhere", "no such file or folder"),
    "unknown protocol": (lambda path: "nosuch://bucket/data.npz", "cannot be read: Protocol not known"),
    "unknown suffix": (broken("data.csv", b"1,2"), "unknown kind of data; use .arrow .npy .npz .parquet"),
    "no suffix": (broken("data", b"1,2"), "unknown kind of data"),
    "empty folder": (lambda path: path, "the folder holds no .arrow .npy .npz .parquet file"),
    "empty npz": (broken("data.npz", b""), "cannot be read as .npz: File is not a zip file"),
    "empty npy": (broken("data.npy", b""), "cannot be read as .npy: "),
    "empty parquet": (broken("data.parquet", b""), "cannot be read as .parquet: "),
    "empty arrow": (broken("data.arrow", b""), "cannot be read as .arrow: "),
    "text named npz": (broken("data.npz", b"hello " * 100), "cannot be read as .npz: File is not a zip file"),
    "text named npy": (broken("data.npy", b"hello " * 100), "cannot be read as .npy: "),
    "text named parquet": (broken("data.parquet", b"hello " * 100), "cannot be read as .parquet: "),
    "text named arrow": (broken("data.arrow", b"hello " * 100), "cannot be read as .arrow: "),
    "an npy header cut off": (broken("x.npy", npy_bytes(X).replace(b"}", b" ")), "cannot be read as .npy: "),
    "an npy header of nonsense": (broken("x.npy", npy_bytes(X).replace(b"{'d", b",'d")), "cannot be read as .npy: "),
    "truncated npz": (broken("data.npz", npz_bytes(x=X)[:300]), "cannot be read as .npz: File is not a zip file"),
    "truncated npy": (broken("x.npy", npy_bytes(X)[:-1]), "cannot be read as .npy: it ends after 0 of 10 samples"),
    "damaged npz": (broken("data.npz", npz_with_a_flipped_byte()), "cannot be read as .npz: "),
    "npz without arrays": (broken("data.npz", npz_bytes()), "holds no sample"),
    "npz of labels alone": (broken("data.npz", npz_bytes(labels=LABELS)), "holds no sample"),
    "pickled objects in npz": (broken("data.npz", npz_bytes(x=np.array([{}, 1]))), "are never unpickled"),
    "a pickle named npy": (broken("data.npy", EXPLODING), "cannot be read as .npy: "),
    "a pickle behind an npy header": (
        broken("data.npy", npy_bytes(np.array([None]))[:128] + EXPLODING),
        "are never unpickled",
    ),
    "strings": (
        broken("data.npz", npz_bytes(x=np.array(["a", "b"]))),
        "x is <U1 of shape (2,), not an array of numbers",
    ),
    "complex numbers": (broken("data.npz", npz_bytes(x=X * 1j)), "x is complex64 of shape "),
    "dates": (broken("data.npz", npz_bytes(x=np.zeros(3, "M8[s]"))), "not an array of numbers"),
    "records": (broken("data.npz", npz_bytes(x=np.zeros(3, "i4,f4"))), "not an array of numbers"),
    "a scalar": (broken("data.npz", npz_bytes(x=np.float32(1))), "x is float32 of shape (), not an array"),
    "no samples": (broken("data.npz", npz_bytes(x=X[:0])), "holds no sample"),
    "samples without values": (broken("data.npz", npz_bytes(x=X[:, :0])), "its samples are empty"),
    "lengths that differ": (
        broken("data.npz", npz_bytes(x=X, labels=LABELS[:9])),
        "arrays are of different length (x: 10, labels: 9)",
    ),
    "a shard without labels": (
        two_shards(x=X, labels=LABELS),
        "arrays are of different length (x: 20, labels: 10)",
    ),
    "a shard of another shape": (two_shards(x=X[:, :2]), "x changes from float32 [3, 4] to float32 [2, 4] after 10"),
    "a shard of another type": (two_shards(x=X.astype("f8")), "x changes from float32 [3, 4] to float64 [3, 4]"),
    "NaN": (broken("data.npz", npz_bytes(x=holed(np.nan))), "x has a NaN or infinity in sample 1234"),
    "infinity": (broken("data.npz", npz_bytes(x=holed(-np.inf, np.float16))), "NaN or infinity in sample 1234"),
    "Fortran order": (
        broken("x.npy", npy_bytes(np.asfortranarray(X))),
        "it is in Fortran order; save it with numpy.ascontiguousarray",
    ),
    "a list column": (arrow_file(x=[[1.0], [2.0, 3.0]]), "x changes from float64 [1] to float64 [2] after 1 samples"),
    "a text column": (arrow_file(x=["a", "b"]), "not an array of numbers"),
    "a null": (arrow_file(x=[1.0, None]), "column x has a null"),
    "a null tensor": (
        arrow_file(x=pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))),
        "column x has a null",
    ),
    "a null inside a tensor": (
        arrow_file(x=pa.array([[1.0, 2.0], [None, 1.0]], pa.list_(pa.float32(), 2))),
        "x has a NaN or infinity in sample 1",
    ),
    "Python objects": (
        lambda path: {"x": np.array([{}, None])},
        "x is not an array of numbers: it holds Python objects",
    ),
    "ragged lists": (lambda path: {"x": [[1, 2], [3]]}, "x is not an array of numbers"),
    "no arrays": (lambda path: {}, "holds no sample"),
}


@pytest.mark.parametrize(("write", "line"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_data_is_refused_in_one_line(write, line, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        opened(write(place), tmp_path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()
    assert not list((tmp_path / "cache").glob("columns/*"))


def test_the_pickle_of_these_tests_would_explode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(EXPLODING)
    assert (tmp_path / "exploded").exists()


def test_a_damaged_shard_is_named(place, tmp_path):
    np.savez(place / "0.npz", x=X)
    (place / "1.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"data: 1\.npz: cannot be read as \.npz"):
        opened(place, tmp_path)


@pytest.mark.parametrize("write", [npz, npz_compressed, arrow, parquet], ids=lambda write: write.__name__)
def test_a_damaged_file_is_refused_or_read_but_never_a_crash(write, place, tmp_path):
    path = write(place)
    whole = path.read_bytes()
    for position in np.random.default_rng(5).integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            opened(path, tmp_path)


def test_data_that_changed_since_it_was_referred_to_is_refused(place, tmp_path):
    reference = refer(npz(place))
    np.savez(place / "data.npz", x=X + 1)
    with pytest.raises(InputError, match="changed since this run began"):
        open_dataset(reference, tmp_path / "cache")


def test_an_encrypted_archive_is_refused(place, tmp_path):
    data = bytearray(npz(place).read_bytes())
    archive = zipfile.ZipFile(io.BytesIO(bytes(data)))
    for entry in archive.infolist():
        data[entry.header_offset + 6] |= 1
    start = archive.start_dir
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        data[start + 8] |= 1
        start += 4
    (place / "data.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read as \.npz: .*encrypted"):
        opened(place / "data.npz", tmp_path)


def test_columns_are_described_in_readable_text(place, tmp_path):
    reference = refer(npz(place))
    open_dataset(reference, tmp_path)
    described = json.loads((tmp_path / "columns" / reference.sha256 / "columns.json").read_text())
    assert described[0] == {"name": "x", "file": "0.bin", "dtype": "float32", "shape": [10, 3, 4]}
