"""How long each layer takes, in the report."""

from __future__ import annotations

import pytest

from quant_core.report.tables.latency import latency_rows, latency_totals
from tests.reports import changed, frontier


def test_the_layer_that_gains_most_comes_first():
    manifest, tables = frontier()
    manifest = changed(manifest, {"plan": {"one": "a8w8", "two": "a8w8", "three": "a16w8"}})
    rows = latency_rows(manifest, tables["latency"])
    assert [(row.name, row.precision, row.wide, row.shipped) for row in rows] == [
        ("two", "a8w8", "2.00 ms", "1.00 ms"),
        ("one", "a8w8", "2.00 ms", "2.00 ms"),
        ("three", "a16w8", "2.00 ms", "2.00 ms"),
    ]
    assert (rows[0].wide_share, rows[0].shipped_share) == (1.0, 0.5)
    assert latency_totals(manifest, tables["latency"]).startswith(
        "All layers take 5.00 ms of the 6.50 ms of the shipped"
    )


@pytest.mark.parametrize("precision", ["a16w16", "float32"])
def test_a_layer_that_was_not_timed_so_is_left_out(precision):
    manifest, tables = frontier()
    rows = latency_rows(changed(manifest, {"plan.two": precision}), tables["latency"])
    assert "two" not in {row.name for row in rows} and len(rows) == 2
