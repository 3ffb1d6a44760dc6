"""The order of narrowing, what it saves, and the plans it leads to."""

import math

import numpy as np
import pyarrow as pa
import pytest

from quant_core.model.layers import Layer, layer_table
from quant_core.precision import Precision, PrecisionPlan
from quant_core.probing.ranking import macs_share, rank
from quant_core.storage.schemas import PROBES, SENSITIVITY
from quant_core.storage.tables import from_ipc, to_ipc

WIDE, NARROW = Precision.parse("a16w16"), Precision.parse("a8w8")
LAYERS = [
    Layer("first", "Conv", (0,), ("x",), ("w1",), ((8, 4),), 1000, 10),
    Layer("second", "Conv", (1,), ("y",), ("w2",), ((4, 4),), 500, 10),
    Layer("third", "MatMul", (2,), ("y", "z"), (), (), 300, 20),
]


def probes(*rows):
    names = ["layer", "precision", "losses", "seconds"]
    return pa.Table.from_pylist([dict(zip(names, (*row, 0.5), strict=True)) for row in rows], schema=PROBES)


def ranked(*tables):
    return rank(layer_table(LAYERS), tables, WIDE)


def order(ranking):
    return list(zip(ranking.column("layer").to_pylist(), ranking.column("precision").to_pylist(), strict=True))


def test_ascending_by_mean_loss():
    ranking = ranked(
        probes(("first", "a8w8", [3.0, 1.0]), ("second", "a8w8", [1.0, 1.0]), ("third", "a8w8", [9.0, 0.0]))
    )
    assert [layer for layer, _ in order(ranking)] == ["second", "first", "third"]
    assert ranking.column("loss").to_pylist() == [1.0, 2.0, 4.5]
    assert ranking.schema.equals(SENSITIVITY, check_metadata=True)


def test_ties_are_in_graph_order_and_of_one_layer_the_smaller_step_first():
    rows = [(layer, text, [1.0]) for layer in ("third", "first", "second") for text in ("a8w8", "a16w8")]
    expected = [(layer, text) for layer in ("first", "second", "third") for text in ("a16w8", "a8w8")]
    assert order(ranked(probes(*rows))) == expected


def test_the_order_does_not_depend_on_how_probes_were_split():
    rows = [(layer, "a8w8", [loss]) for layer, loss in (("first", 1.0), ("second", 1.0), ("third", 0.5))]
    whole = ranked(probes(*rows))
    assert to_ipc(ranked(probes(rows[2]), probes(rows[1], rows[0]))) == to_ipc(whole)


def test_a_loss_that_is_no_number_comes_last():
    rows = [("first", "a8w8", [math.nan]), ("second", "a8w8", [5.0]), ("third", "a8w8", [1.0])]
    assert [layer for layer, _ in order(ranked(probes(*rows)))] == ["third", "second", "first"]


def test_what_each_narrowing_saves():
    ranking = ranked(probes(("first", "a8w8", [1.0]), ("second", "a16w8", [2.0]), ("third", "a8w8", [3.0])))
    assert ranking.column("bops_saved").to_pylist() == [1000 * (256 - 64), 500 * (256 - 128), 300 * (256 - 64)]
    assert ranking.column("bytes_saved").to_pylist() == [32, 16, 0]


def test_the_standard_error_of_the_mean_loss():
    losses = np.random.default_rng(0).exponential(size=400)
    row = ranked(probes(("first", "a8w8", losses.tolist()))).to_pylist()[0]
    draws = np.random.default_rng(1).choice(losses, (2000, 400)).mean(axis=1)
    assert row["samples"] == 400
    assert row["loss"] == pytest.approx(losses.mean())
    assert row["standard_error"] == pytest.approx(draws.std(), rel=0.1)


def test_no_probe_gives_an_empty_ranking():
    assert from_ipc(to_ipc(ranked())).num_rows == 0


UNIFORM = PrecisionPlan.uniform([layer.name for layer in LAYERS], WIDE)


def test_shares_of_the_work():
    plan = UNIFORM.narrowed({"first": NARROW})
    assert macs_share(LAYERS, plan, WIDE) == 1000 / 1800
    assert macs_share(LAYERS, UNIFORM, WIDE) == 0
    assert macs_share([], PrecisionPlan(()), WIDE) == 0
