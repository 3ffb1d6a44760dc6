"""From times to what the search is told that layers cost."""

from __future__ import annotations

import pyarrow as pa
import pytest

from quant_core.errors import InputError
from quant_core.latency import device_cost, measured_cost, read_device_costs
from quant_core.model.layers import Layer
from quant_core.precision import Precision, PrecisionPlan
from quant_core.storage.schemas import TIMES

WIDE, NARROW = Precision.parse("float32"), Precision.parse("au8w8")
LAYERS = [Layer(name, "Conv", (at,), ("x",), ("w",), ((1, 1),), 1, 1) for at, name in enumerate(["one", "two"])]


def times(**models: float) -> pa.Table:
    alone = {("one", "float32"): 3.0, ("one", "au8w8"): 1.0, ("two", "float32"): 1.0, ("two", "au8w8"): 2.0}
    rows = [(None, name, taken) for name, taken in models.items()]
    rows += [(layer, precision, taken) for (layer, precision), taken in alone.items()]
    columns = ("layer", "precision", "milliseconds")
    listed = [dict(zip(columns, row, strict=True)) | {"median": row[2], "turns": 9} for row in rows]
    return pa.Table.from_pylist(listed, schema=TIMES)


@pytest.mark.parametrize(("wide", "narrow", "fixed"), [(5.0, 4.5, 1.0), (2.0, 1.5, 0.0), (9.0, 3.2, 0.2)])
def test_a_plan_of_one_precision_takes_what_was_measured(wide, narrow, fixed):
    cost = measured_cost(times(float32=wide, au8w8=narrow))
    assert cost.fixed == pytest.approx(fixed)
    assert cost.total(PrecisionPlan.uniform(["one", "two"], WIDE)) == pytest.approx(wide)
    assert cost.total(PrecisionPlan.uniform(["one", "two"], NARROW)) == pytest.approx(narrow)
    assert cost.prices["one", WIDE] == pytest.approx(3 * cost.prices["two", WIDE])


def written(folder, text: str):
    (folder / "device.csv").write_text(text)
    return read_device_costs(str(folder / "device.csv"), LAYERS, folder / "cache")


HEAD = "layer,precision,milliseconds\n"


def test_times_of_a_device_are_prices(tmp_path):
    given = written(tmp_path, HEAD + "one,float32,3\none,au8w8,1e-1\ntwo,float32,0\ntwo, au8w8, 2\ntwo,a8w8,7\n")
    cost = device_cost(given, LAYERS, (WIDE, NARROW))
    assert cost.total(PrecisionPlan((("one", NARROW), ("two", WIDE)))) == pytest.approx(0.1)
    assert cost.unit == "ms"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("layer,ms\n", "its first line must be layer,precision,milliseconds"),
        ("", "its first line must be"),
        (HEAD + "onee,float32,3\n", "line 2: 'onee' is not a layer of the model; did you mean 'one'"),
        (HEAD + "one,flaot,3\n", "line 2: precision 'flaot'"),
        (HEAD + "one,float32,-1\n", "line 2: milliseconds must be a number that is not negative, not '-1'"),
        (HEAD + "one,float32\n", "line 2: milliseconds must be"),
        (HEAD + "one,float32,nan\n", "not 'nan'"),
        (HEAD + "one,float32,1\none,float32,2\n", "line 3: layer 'one' has a second row at float32"),
    ],
)
def test_what_is_no_time_of_a_layer_is_told_with_its_line(tmp_path, text, told):
    with pytest.raises(InputError, match="device.csv") as raised:
        written(tmp_path, text)
    assert told in str(raised.value)


def test_a_missing_row_is_named(tmp_path):
    given = written(tmp_path, HEAD + "one,float32,3\none,au8w8,1\ntwo,float32,2\n")
    with pytest.raises(InputError, match="has no row for layer 'two' at au8w8$"):
        device_cost(given, LAYERS, (WIDE, NARROW))
    with pytest.raises(InputError, match="and 1 more rows? (is|are) missing"):
        device_cost(written(tmp_path, HEAD + "one,float32,3\none,au8w8,1\n"), LAYERS, (WIDE, NARROW))
