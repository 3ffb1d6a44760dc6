"""Weights that are chosen for the plan found, and the search that goes on from there."""

from __future__ import annotations

import onnx
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.storage.tables import from_ipc
from tests.models import MODELS, samples


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("rebuilt"), MODELS["transformer"]()
    onnx.save(model, folder / "float.onnx")
    data = samples(model, 24, 1)
    return auto_mixed_precision(
        folder / "float.onnx",
        calibration=data,
        evaluation=data,
        config=config_from(target={"metric": "sqnr_db", "limit": 29}, narrow=["a8w4"], cost="bytes", improve="auto"),
        output=folder / "out",
        workers=1,
    )


def test_the_search_goes_on_from_the_plan_with_its_new_weights_to_a_cheaper_one(found):
    trials = from_ipc((found.folder / "search.arrow").read_bytes()).to_pylist()
    plans = [trial["plan"] for trial in trials]
    again = next(at for at, plan in enumerate(plans) if plan in plans[:at])
    before = trials[plans.index(plans[again])]
    assert trials[again]["score"] > before["score"]
    shipped = next(trial for trial in trials if trial["plan"] == found.plan.digest)
    assert found.met and shipped["cost"] < before["cost"]


def test_the_report_tells_what_the_new_weights_gave(found):
    told = [one for one in found.manifest.improvements if one.precision is None]
    assert told and all(one.kept and one.after < one.before for one in told)
    page = (found.folder / "report.html").read_text()
    assert f"Weights reconstructed in {told[0].layers} of {told[0].of} layers, for the plan found: L2 " in page
