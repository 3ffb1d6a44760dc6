"""Every kind of stored file, damaged at random: made again and said, or refused; never taken for what it was not.

NARROWCAST_DAMAGES=1000 pytest tests/tasks/test_damage.py         # the long version, of each kind so many
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path

import fsspec
import numpy as np
import onnx
import pyarrow as pa
import pytest

from quant_core.config import config_from
from quant_core.errors import InputError
from quant_core.execution.progress import watched_by
from quant_core.execution.runner import Runner
from quant_core.model.prepared_model import is_prepared
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.stages import STAGES
from quant_core.quantization.export import is_exported
from quant_core.results.outcome import OPTIONAL_TABLES, TABLES, open_outcome
from quant_core.storage.data import open_dataset, refer_data
from quant_core.storage.references import fetch, refer
from quant_core.storage.store import Store
from quant_core.storage.tables import facts, from_ipc
from tasks.cache.keys import step_key, with_key
from tasks.cache.shared_files import SharedFiles
from tasks.cache.workspace import Workspace
from tests.models import build, samples
from tests.watching import Said

KEPT = [name for name in (*TABLES, *OPTIONAL_TABLES) if name != "latency"]
"""Tables of a run that kept its frontier, and whose cost is not latency."""
_DAMAGES = int(os.environ.get("NARROWCAST_DAMAGES", "25"))

Damage = Callable[[random.Random, bytes, list[bytes]], bytes]


def flipped(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwritten(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    start = chance.randrange(len(data))
    length = chance.randint(1, 64)
    return data[:start] + chance.randbytes(length) + data[start + length :]


def cut(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    return data[: chance.randrange(len(data))]


def with_a_tail(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    return data + chance.randbytes(chance.randint(1, 64))


def empty(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    return b""


def foreign(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Another file of the same run, or one of somebody else."""
    return chance.choice([*others, b"PK\x03\x04" * 20, b"\x80\x04\x95.", b"{}", b"[]", b"null", b"\0" * len(data)])


KINDS: list[Damage] = [*[flipped] * 4, overwritten, *[cut] * 2, with_a_tail, foreign, empty]


def damages(data: bytes, others: list[bytes]) -> Iterator[bytes]:
    """Damaged versions of a file, of each kind of damage at least one."""
    chance = random.Random(0)
    for number in range(_DAMAGES):
        found = KINDS[number % len(KINDS)](chance, data, others)
        if found != data:
            yield found


_moments = count(1)


def put(path: Path, data: bytes) -> None:
    """Write a file; its time says so, however fast one follows another."""
    path.write_bytes(data)
    os.utime(path, ns=(next(_moments) * 10**9,) * 2)


class StoringRunner(Runner):
    """Keeps results in the workspace as the tasks do, without Prefect."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace.machine(1))
        self.workspace = workspace

    def fan_out(self, stage, each, /, step="", title="", **common):
        tables = super().fan_out(stage, each, step=step, title=title, **common)
        for number, arguments in enumerate(each):
            key = step_key(stage, {**common, **arguments})
            tables[number] = with_key(tables[number], key)
            self.workspace.results.put(key, tables[number])
        return tables


def wide_chain() -> onnx.ModelProto:
    """Some of its weights are large enough to be in a file beside the prepared model."""
    return build(
        """(float[N,3,6,6] x) => (float[N,4] y) {
            [c1] a = Conv<pads=[1,1,1,1]>(x, w1, b1)  r = Relu(a)
            [c2] b = Conv(r, w2, b2)                  s = Relu(b)
            d = GlobalAveragePool(s)                  e = Flatten(d)
            [fc] y = Gemm<transB=1>(e, w3, b3)
        }""",
        {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (8, 16, 3, 3), "b2": (8,), "w3": (4, 8), "b3": (4,)},
    )


def milliseconds(file: str, feeds: dict[str, np.ndarray]) -> float:
    """What a board takes that is bound by the bytes of a model."""
    return Path(file).stat().st_size / 1000


def mean_output(open_session, labels):
    """A score of the user's own: one a sample."""
    return open_session()(samples(wide_chain(), 12))["y"].mean(axis=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace and the output folder of runs that took every stage: timed and scored here, and by functions of the user's."""
    folder = tmp_path_factory.mktemp("run")
    model = wide_chain()
    onnx.save(model, folder / "model.onnx")
    data, held_out = samples(model, 12), samples(model, 5, seed=1)
    target = {"metric": "l2", "limit": 0.05}
    config = config_from(target=target, narrow=["a8w8", "a8w4"], cost="latency", time_models=True, frontier=True)
    own = {"timer": f"{__name__}:milliseconds", "evaluator": f"{__name__}:mean_output"}
    on_a_board = config_from(target={"metric": "score", "limit": -1e9}, cost="latency", improve="auto", **own)
    in_float = config_from(target={"metric": "l2", "limit": 1e-5})
    on = StoringRunner(Workspace.at(str(folder / "workspace")))
    cache = on.machine.cache
    job = QuantizationJob.of(folder / "model.onnx", data, data, held_out, config, folder / "out", cache)
    timed = QuantizationJob.of(folder / "model.onnx", data, data, None, on_a_board, folder / "timed", cache)
    near = QuantizationJob.of(folder / "model.onnx", data, data, None, in_float, folder / "near", cache)
    with pytest.MonkeyPatch.context() as patch:
        for module, seconds in (
            ("layer_times", "_LAYER_SECONDS"),
            ("layer_times", "_MODEL_SECONDS"),
            ("model_times", "_SECONDS"),
        ):
            patch.setattr(import_module(f"quant_core.latency.{module}"), seconds, 0.001)
        run_auto(job, on)
        run_auto(timed, on)
        run_auto(near, on)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def results(folder: Path, step: str) -> Path:
    return sorted((folder / "workspace" / "results").glob(f"{step}-*"))[0]


def test_a_run_has_stored_every_kind_of_result(finished):
    stored = {path.name.rpartition("-")[0] for path in (finished / "workspace" / "results").iterdir()}
    assert stored == set(STAGES)
    assert {path.name for path in (finished / "workspace" / "files").iterdir()} == {
        "columns",
        "exported",
        "float-outputs",
        "given",
        "prepared",
    }


@pytest.mark.parametrize("step", sorted(STAGES))
def test_a_result_is_what_the_step_left_or_none(folder, step):
    store, path = Workspace.at(str(folder / "workspace")).results, results(folder, step)
    whole, others = path.read_bytes(), [other.read_bytes() for other in path.parent.iterdir() if other != path]
    table, told = from_ipc(whole), 0
    for damaged in damages(whole, others):
        path.write_bytes(damaged)
        found = store.find(path.name)
        told += found.flaw is not None
        assert (found.payload is None) == (found.flaw is not None)
        if found.payload is not None:  # bytes that nothing hangs on
            assert from_ipc(found.payload).equals(table, check_metadata=True)
    assert told > _DAMAGES / 2


@pytest.mark.parametrize(
    ("step", "name", "intact"),
    [
        ("prepare", "model.onnx", is_prepared),
        ("prepare", "model.onnx.data", is_prepared),
        ("export", "model.onnx", is_exported),
    ],
)
def test_a_model_that_a_step_made_is_whole_or_made_again(folder, step, name, intact):
    cache, table = folder / "workspace" / "files", from_ipc(results(folder, step).read_bytes())
    stage = {"prepare": "prepared", "export": "exported"}[step]
    path = cache / stage / facts(table)[stage] / name
    whole, others = path.read_bytes(), [other.read_bytes() for other in cache.rglob("*.onnx") if other != path]
    for damaged in damages(whole, others):
        put(path, damaged)
        assert not intact(table, cache)
    put(path, whole)
    assert intact(table, cache)


@pytest.mark.parametrize("name", ["columns.json", "sha256", "0.bin"])
def test_unpacked_data_are_whole_or_unpacked_again_and_it_is_said(folder, name):
    cache = folder / "workspace" / "files"
    reference = refer(next((cache / "given").iterdir()))
    path = cache / "columns" / reference.sha256 / name
    whole, others = path.read_bytes(), [other.read_bytes() for other in path.parent.iterdir() if other != path]
    expected = {column: np.array(array) for column, array in open_dataset(reference, cache).columns.items()}
    for damaged in damages(whole, others):
        put(path, damaged)
        with watched_by(log := Said()):
            found = open_dataset(reference, cache)
        assert all(np.array_equal(found.columns[column], array) for column, array in expected.items())
        assert len(log.said) == 1 and "is damaged; it is made again" in log.said[0]


def test_data_given_from_memory_are_whole_or_written_again(folder):
    cache, arrays = folder / "workspace" / "files", samples(wide_chain(), 12)
    reference = refer_data(arrays, cache)
    path = next(Path(reference.url).iterdir())
    for damaged in damages(path.read_bytes(), []):
        put(path, damaged)
        with pytest.raises(InputError):
            fetch(reference, cache)
        assert refer_data(arrays, cache) == reference
        assert fetch(reference, cache) == Path(reference.url)


def test_a_copy_of_a_remote_file_is_whole_or_fetched_again_and_it_is_said(folder, tmp_path):
    files, url = fsspec.filesystem("memory"), f"memory://{tmp_path.name}/model.onnx"
    files.put_file(str(folder / "model.onnx"), f"/{tmp_path.name}/model.onnx")
    reference = refer(url)
    path = fetch(reference, tmp_path)
    whole = path.read_bytes()
    for damaged in damages(whole, [b"another"]):
        put(path, damaged)
        with watched_by(log := Said()):
            assert fetch(reference, tmp_path).read_bytes() == whole
        assert len(log.said) == 1 and "damaged; it is fetched again" in log.said[0]
    files.store.clear()


def test_a_shared_model_is_whole_or_removed_and_it_is_said(folder, tmp_path):
    table = from_ipc(results(folder, "prepare").read_bytes())
    place = Store(f"memory://{tmp_path.name}/files")
    here, there = SharedFiles(folder / "workspace" / "files", place), SharedFiles(tmp_path / "other", place)
    here.share(table)
    names = [f"prepared/{name}" for name in place.names("prepared")]
    for name in names:
        whole = place.read(name)
        for damaged in damages(whole, [place.read(other) for other in names if other != name]):
            place.write(name, damaged)
            shutil.rmtree(there.cache, ignore_errors=True)
            with watched_by(log := Said()):
                there.bring(table)
            assert not is_prepared(table, there.cache)
            assert place.names("prepared") == [] and len(log.said) == 1
            here.share(table)
    there.bring(table)
    assert is_prepared(table, there.cache)
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("name", ["manifest.json", *(f"{table}.arrow" for table in KEPT)])
def test_an_output_folder_is_as_it_was_written_or_refused_in_one_line(folder, name):
    path = folder / "out" / name
    whole, others = path.read_bytes(), [other.read_bytes() for other in path.parent.iterdir() if other != path]

    def read() -> tuple[object, dict[str, pa.Table]]:
        run = open_outcome(folder / "out")
        return run.manifest, {table: run.table(table) for table in KEPT}

    manifest, tables = read()
    refused = 0
    for damaged in damages(whole, others):
        path.write_bytes(damaged)
        try:
            found, read_tables = read()
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert found == manifest
            assert all(read_tables[table].equals(whole, check_metadata=True) for table, whole in tables.items())
    assert refused > _DAMAGES / 2
