"""The float outputs that scores are held against, where calibration has computed them on its way."""

import numpy as np
import pytest

from quant_core.calibration import float_pass
from quant_core.calibration.collect import calibrate
from quant_core.execution.machine import Machine
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.scoring import float_outputs as module
from quant_core.scoring.float_outputs import float_outputs, reference_arrays
from quant_core.storage.data import refer_data
from quant_core.storage.references import refer
from quant_core.storage.tables import facts, to_ipc
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.fixture
def calibrated(tmp_path):
    """Calibrate a model on seven samples, its outputs kept; returns what its float outputs are asked for with."""
    machine, model = Machine(tmp_path / "cache", workers=1), MODELS["residual"]()
    reference = refer(saved(model, tmp_path))
    layers = prepare(reference, DEFAULT_LAYER_OPS, machine)
    data = refer_data(samples(model, 7), machine.cache)
    calibrate(layers, data, 3, machine, keeps_outputs=True)
    return {"model": reference, "layers": layers, "data": data, "machine": machine}


def outputs(given, **changed):
    return float_outputs(**given, output="all", function=None, batch_size=3, **changed)


def test_what_calibration_kept_is_what_the_file_gives_but_for_the_last_bits(calibrated):
    kept, own = (reference_arrays(outputs(calibrated, as_calibrated=flag)) for flag in (True, False))
    assert kept.keys() == own.keys()
    for name, array in own.items():
        np.testing.assert_allclose(kept[name], array, rtol=1e-4, atol=1e-5)


def test_kept_outputs_are_not_computed_again(calibrated, monkeypatch):
    monkeypatch.setattr(module, "_all_outputs", None)
    assert outputs(calibrated, as_calibrated=True).num_rows == 7


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-9])])
def test_outputs_that_are_gone_or_damaged_are_computed_to_the_same_bits(calibrated, damage):
    before = to_ipc(outputs(calibrated, as_calibrated=True))
    (file,) = (calibrated["machine"].cache / "float-outputs").iterdir()
    damage(file)
    assert to_ipc(outputs(calibrated, as_calibrated=True)) == before


def test_outputs_that_take_too_much_memory_are_not_kept_and_the_same(calibrated, monkeypatch):
    before = to_ipc(outputs(calibrated, as_calibrated=True))
    (file,) = (calibrated["machine"].cache / "float-outputs").iterdir()
    file.unlink()
    monkeypatch.setattr(float_pass, "_LARGEST", 8)
    calibrate(calibrated["layers"], calibrated["data"], 3, calibrated["machine"], keeps_outputs=True)
    assert not file.exists()
    assert to_ipc(outputs(calibrated, as_calibrated=True)) == before


def test_a_file_that_gives_something_else_is_believed(calibrated, tmp_path):
    other = MODELS["residual"]()
    bias = next(tensor for tensor in other.graph.initializer if len(tensor.dims) == 1)
    bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + 1).tobytes()
    (tmp_path / "other").mkdir()
    given = calibrated | {"model": refer(saved(other, tmp_path / "other"))}
    assert to_ipc(outputs(given, as_calibrated=True)) == to_ipc(outputs(given))


def test_outputs_are_kept_apart_where_other_tensors_are_looked_at(calibrated):
    others = prepare(calibrated["model"], ("Conv", "Add"), calibrated["machine"])
    assert facts(others)["prepared"] == facts(calibrated["layers"])["prepared"]
    calibrate(others, calibrated["data"], 3, calibrated["machine"], keeps_outputs=True)
    assert len(list((calibrated["machine"].cache / "float-outputs").iterdir())) == 2
