"""Files that one machine makes, as another machine has them."""

import numpy as np
import onnx
import pyarrow as pa
import pytest

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.progress import watched_by
from quant_core.model.model_file import refer_model
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import is_prepared
from quant_core.storage.data import open_dataset
from quant_core.storage.references import fetch, refer
from quant_core.storage.store import Store
from tasks.cache.shared_files import SharedFiles
from tests.models import MODELS
from tests.watching import Said


@pytest.fixture
def machines(tmp_path):
    """Two machines of one remote workspace."""
    place = Store(f"memory://{tmp_path}/files")
    return [SharedFiles(tmp_path / name, place) for name in ("one", "other")]


@pytest.fixture
def prepared(machines, tmp_path):
    """The layer table of a model that the first machine has prepared and shared."""
    onnx.save(MODELS["chain"](), tmp_path / "model.onnx")
    one = machines[0]
    table = prepare(refer_model(tmp_path / "model.onnx"), DEFAULT_LAYER_OPS, Machine(one.cache))
    one.share(table)
    return table


def test_a_prepared_model_is_brought_with_the_result_that_names_it(machines, prepared):
    other = machines[1]
    assert not is_prepared(prepared, other.cache)
    assert other.localize({"layers": prepared, "start": 0}) == {"layers": prepared, "start": 0}
    assert is_prepared(prepared, other.cache)


def test_a_damaged_copy_is_fetched_again(machines, prepared):
    other = machines[1]
    other.bring(prepared)
    copy = next(other.cache.rglob("model.onnx"))
    copy.write_bytes(copy.read_bytes()[:-1])
    other.bring(prepared)
    assert is_prepared(prepared, other.cache)


def test_a_file_that_is_damaged_in_the_workspace_is_said_and_removed(machines, prepared):
    other = machines[1]
    name, _ = sorted(other.place.names("prepared"))  # model.onnx, and the weights beside it
    other.place.write(f"prepared/{name}", b"damaged")
    with watched_by(log := Said()):
        other.bring(prepared)
    assert not is_prepared(prepared, other.cache)
    assert other.place.names("prepared") == []
    assert len(log.said) == 1 and "is damaged" in log.said[0]


def test_a_local_workspace_has_its_files_in_place(tmp_path, prepared):
    files = SharedFiles(tmp_path / "files", Store(str(tmp_path / "files")))
    files.share(prepared)
    files.bring(prepared)
    assert not (tmp_path / "files").exists()


def weights_beside(folder):
    onnx.save(MODELS["chain"](), folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return refer_model(folder / "m.onnx")


def one_file(folder):
    np.savez(folder / "data.npz", x=np.ones((3, 2), np.float32))
    return refer(folder / "data.npz")


def a_folder(folder):
    (folder / "data").mkdir()
    for name in ("a", "b"):
        np.savez(folder / "data" / f"{name}.npz", x=np.ones((3, 2), np.float32))
    return refer(folder / "data")


@pytest.mark.parametrize("made", [weights_beside, one_file, a_folder], ids=lambda made: made.__name__)
def test_what_only_one_machine_has_is_shared_with_others(machines, tmp_path, made):
    one, other = machines
    (tmp_path / "mine").mkdir()
    reference = made(tmp_path / "mine")
    one.share_inputs([{"data": reference, "start": start} for start in (0, 1)])
    (tmp_path / "mine").rename(tmp_path / "away")
    here = other.localize({"data": reference})["data"]
    assert here.sha256 == reference.sha256 and here.url.startswith(str(other.cache))
    path = fetch(here, other.cache)
    assert path.name == (tmp_path / "mine" / reference.url).name
    if made is not weights_beside:
        assert open_dataset(here, other.cache).count in (3, 6)


@pytest.mark.parametrize("made", [weights_beside, one_file, a_folder], ids=lambda made: made.__name__)
def test_an_upload_that_was_broken_off_is_finished(machines, tmp_path, made):
    one = machines[0]
    reference = made(tmp_path)
    one.share_input(reference)
    name = f"files/{reference.sha256}"
    whole = one.place.names(name)
    for lost in whole:
        one.place.remove(f"{name}/{lost}")
        one.share_input(reference)
        assert one.place.names(name) == whole


def test_what_is_here_is_used_where_it_is(machines, tmp_path):
    reference = one_file(tmp_path)
    machines[0].share_input(reference)
    assert machines[1].localize({"data": reference})["data"] is reference


def test_what_is_nowhere_is_refused_by_its_name(machines, tmp_path):
    reference = one_file(tmp_path)
    (tmp_path / "data.npz").unlink()
    here = machines[1].localize({"data": reference})["data"]
    with pytest.raises(InputError, match=r"data\.npz: no such file"):
        fetch(here, tmp_path)


def test_other_arguments_are_left_alone(machines):
    table = pa.table({"a": [1]})
    assert machines[1].localize({"a": table, "b": "c"}) == {"a": table, "b": "c"}
