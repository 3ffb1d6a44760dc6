"""A run in Markdown, and what it says of the next half decibel and of the worst samples."""

from __future__ import annotations

import pyarrow as pa
import pytest

from quant_core.report.markdown import report_markdown
from quant_core.report.sentences.half_decibel import half_decibel
from quant_core.storage.schemas import FRONTIER
from quant_core.storage.tables import with_facts
from tests.reports import HOSTILE, everything_narrow, frontier, mixed


def test_a_reviewer_reads_verdict_scores_costs_layers_and_samples():
    manifest, tables = frontier()
    text = report_markdown(manifest, tables)
    assert text.startswith("**Target met.** 2 of 3 layers")
    assert "| **L2 distance** | | 0.420 ± 0.0039 | 0.490 ± 0.0039 | 0.490 ± 0.0039 |" in text.replace("|  |", "| |")
    assert "**Layers that stay at a16w8**: 1 of 3." in text and "| three | 3.0 k |" in text
    assert "| 7 | class 3 (4.50) | class 5 (4.25) | 1.25 |" in text
    assert manifest.output.sha256 in text


def test_names_of_a_model_are_no_markup():
    lines = report_markdown(*mixed(("one", HOSTILE))).splitlines()
    (row,) = [line for line in lines if "onerror" in line]
    assert "\\<img" in row and "<img" not in row.replace("\\<", "")


def test_where_all_is_narrow_no_layer_is_listed():
    assert "Layers that stay" not in report_markdown(*everything_narrow())


def test_half_a_decibel_is_told_by_the_cheapest_plan_that_has_it():
    manifest, tables = frontier()
    now, more, less = half_decibel(manifest, tables["frontier"])
    assert now == "SQNR is 31.5 dB at 77.5% of the bit operations."
    assert more.startswith("Half a decibel more costs 11.3 percentage points: 32.4 dB at 88.8%, with 1 layer narrowed")
    assert less == "No cheaper plan within half a decibel was measured."


@pytest.mark.parametrize("decibels", [None, 31.5])
def test_what_was_not_measured_is_not_told(decibels):
    manifest, tables = frontier()
    rows = [row | {"sqnr_db": decibels} for row in tables["frontier"].to_pylist()]
    table = with_facts(pa.Table.from_pylist(rows, schema=FRONTIER), cost="bops", metric="l2", function=None)
    said = half_decibel(manifest, table)
    assert said == [] if decibels is None else "No measured plan is half a decibel better." in said
