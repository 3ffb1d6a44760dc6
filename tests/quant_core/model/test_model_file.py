"""What counts as a float model, and what belongs to it."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import fsspec
import numpy as np
import onnx
import pytest

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.model_file import read_model, refer_model
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import load_prepared, prepared_graph
from quant_core.model.stored_model import DATA_FILE, is_intact
from quant_core.storage.data import refer_data
from quant_core.storage.references import fetch, file_digest, refer
from quant_core.storage.tables import facts
from tests.models import MODELS


def saved(folder: Path, outside: bool = False, location: str = "weights.bin") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(MODELS["chain"](), path, save_as_external_data=outside, location=location, size_threshold=0)
    return path


def test_a_model_in_one_file_is_that_file(tmp_path):
    path = saved(tmp_path)
    assert refer_model(path).sha256 == file_digest(path)


def test_a_weight_in_a_file_beside_the_model_changes_the_digest(tmp_path):
    path = saved(tmp_path, outside=True)
    before = refer_model(path)
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[5] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert refer(path).sha256 == refer(path).sha256
    assert refer_model(path).sha256 != before.sha256
    with pytest.raises(InputError, match="changed since this run began"):
        fetch(before, tmp_path)


def test_a_model_whose_weights_are_missing_is_refused(tmp_path):
    path = saved(tmp_path, outside=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: its file weights\.bin is missing$"):
        refer_model(path)


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", ""])
def test_weights_outside_the_models_folder_are_refused(tmp_path, place):
    path = saved(tmp_path, outside=True)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="outside the model's folder"):
        refer_model(path)


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_weights_that_a_link_leads_to_outside_the_models_folder_are_refused(tmp_path, linked):
    path = saved(tmp_path / "model", outside=True)
    proto = onnx.load(path, load_external_data=False)
    (tmp_path / "other").mkdir()
    weights = (path.parent / "weights.bin").rename(tmp_path / "other" / "weights.bin")
    if linked == "file":
        (path.parent / "weights.bin").symlink_to(weights)
    else:
        (path.parent / "inner").symlink_to(weights.parent)
        for entry in (entry for tensor in proto.graph.initializer for entry in tensor.external_data):
            entry.value = "inner/weights.bin" if entry.key == "location" else entry.value
        path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="a link out of the model's folder; put a copy there"):
        refer_model(path)


def test_weights_in_a_folder_beside_the_model_are_read(tmp_path):
    path = saved(tmp_path / "model", outside=True)
    proto = onnx.load(path, load_external_data=False)
    (path.parent / "data").mkdir()
    (path.parent / "weights.bin").rename(path.parent / "data/weights.bin")
    for entry in (entry for tensor in proto.graph.initializer for entry in tensor.external_data):
        entry.value = "data/weights.bin" if entry.key == "location" else entry.value
    path.write_bytes(proto.SerializeToString())
    assert is_read_as_given(path, tmp_path)


def test_a_cache_of_downloads_is_read(tmp_path):
    """Every file is a link to one named by its digest, in a folder of its own."""
    path = saved(tmp_path / "snapshots/main", outside=True)
    (tmp_path / "blobs").mkdir()
    for number, file in enumerate([path, path.parent / "weights.bin"]):
        file.rename(tmp_path / f"blobs/{number}")
        file.symlink_to(f"../../blobs/{number}")
    assert is_read_as_given(path, tmp_path)


def is_read_as_given(path: Path, folder: Path) -> bool:
    table = prepare(refer_model(path), DEFAULT_LAYER_OPS, Machine(folder / "cache"))
    graph = prepared_graph(table, folder / "cache")
    weight = onnx.numpy_helper.to_array(next(t for t in MODELS["chain"]().graph.initializer if t.name == "w2"))
    return any(np.array_equal(graph.constant(name), weight) for name in graph.initializers)


def resized(*dims):
    def change(tensor):
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def elsewhere(**where):
    def change(tensor):
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in where.items():
            tensor.external_data.add(key=key, value=value)

    return change


ABSURD = {
    "a weight of 4 TiB": resized(2**40),
    "a weight of more bytes than a number holds": resized(2**62, 2**62),
    "a negative size": resized(-1, 2),
    "an unknown type": lambda tensor: setattr(tensor, "data_type", 99),
    "1 PiB of a file of 64 bytes": elsewhere(location="weights.bin", offset="0", length=str(2**50)),
    "bytes before the file": elsewhere(location="weights.bin", offset="-5", length="-1"),
    "an offset that is no number": elsewhere(location="weights.bin", offset="abc"),
}


@pytest.mark.parametrize("what", ABSURD)
def test_absurd_weights_are_refused(tmp_path, what):
    proto = MODELS["chain"]()
    ABSURD[what](next(tensor for tensor in proto.graph.initializer if len(tensor.dims) > 1))
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"model\.onnx"):
        prepare(refer_model(tmp_path / "model.onnx"), DEFAULT_LAYER_OPS, Machine(tmp_path / "cache"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_flipped_bits_and_cuts_in_a_model_are_refused_or_are_another_model(tmp_path):
    chance, whole, refused = random.Random(0), MODELS["chain"]().SerializeToString(), 0
    path = tmp_path / "model.onnx"
    for number in range(100):
        data = bytearray(whole)
        at = chance.randrange(len(data))
        if chance.random() < 0.7:
            data[at] ^= 1 << chance.randrange(8)
        else:
            del data[at:]
        path.write_bytes(data)
        try:
            prepare(refer_model(path), DEFAULT_LAYER_OPS, Machine(tmp_path / f"cache{number}"))
        except InputError:
            refused += 1
    assert 30 < refused < 100


def test_a_model_with_weights_beside_it_is_prepared_like_one_without(tmp_path):
    digests = []
    for outside in (False, True):
        machine = Machine(tmp_path / f"cache{outside}")
        path = saved(tmp_path / str(outside), outside)
        digests.append(facts(prepare(refer_model(path), DEFAULT_LAYER_OPS, machine))["prepared"])
    assert digests[0] == digests[1]


BAD = {
    "a folder": (lambda path: path.mkdir(), "is a folder, not an ONNX model"),
    "text": (lambda path: path.write_text("hello"), "not an ONNX model"),
    "empty": (lambda path: path.touch(), "not an ONNX model: it holds no graph"),
    "half a model": (lambda path: path.write_bytes(MODELS["chain"]().SerializeToString()[:900]), "not an ONNX model"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_model_is_refused_in_one_line(tmp_path, what):
    make, message = BAD[what]
    make(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=f"^here: {message}") as raised:
        read_model(tmp_path / "model.onnx", "here")
    assert "\n" not in str(raised.value)


def test_a_damaged_prepared_file_is_replaced(tmp_path):
    machine, path = Machine(tmp_path / "cache"), saved(tmp_path)
    digest = facts(prepare(refer_model(path), DEFAULT_LAYER_OPS, machine))["prepared"]
    prepared = machine.cache / "prepared" / digest / "model.onnx"
    prepared.write_bytes(b"damaged")
    prepare(refer_model(path), DEFAULT_LAYER_OPS, machine)
    assert is_intact(machine.cache / "prepared", digest, [DATA_FILE])
    assert load_prepared(digest, machine.cache).nodes


def test_damaged_data_given_from_memory_are_written_again(tmp_path):
    arrays = {"x": np.arange(6, dtype=np.float32)}
    reference = refer_data(arrays, tmp_path)
    next(Path(reference.url).iterdir()).write_bytes(b"damaged")
    assert refer(refer_data(arrays, tmp_path).url).sha256 == reference.sha256


def test_a_store_that_fails_for_a_moment_hides_no_weights(tmp_path, monkeypatch):
    onnx.save(MODELS["chain"](), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    files = fsspec.filesystem("memory")
    for name in ("m.onnx", "w.bin"):
        files.put_file(str(tmp_path / name), f"/{tmp_path.name}/{name}")
    url, whole, failures = f"memory://{tmp_path.name}/m.onnx", fsspec.open, [ConnectionResetError("reset")]

    def flaky(*arguments, **options):
        if failures:
            raise failures.pop()
        return whole(*arguments, **options)

    monkeypatch.setattr("fsspec.open", flaky)
    assert refer_model(url).beside == ("w.bin",)
    assert not failures
