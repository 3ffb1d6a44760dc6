"""A finished run read back from its folder, and shown in a notebook."""

import html
import math

import pytest

from quant_core.errors import InputError
from quant_core.report.page import report_page
from quant_core.results.outcome import TABLES, open_outcome
from quant_core.storage.tables import to_ipc
from tests.reports import HOSTILE, changed, frontier, missed, mixed, write_run


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", mixed())


def test_a_run_is_read_back_as_it_was(folder):
    manifest, tables = mixed()
    run = open_outcome(folder)
    assert (run.met, run.plan.as_dict()) == (True, manifest.plan)
    assert run.manifest.model_dump() == manifest.model_dump() | {
        "tables": run.manifest.tables,
        "digest": run.manifest.digest,
    }
    assert all(run.table(name).equals(tables[name]) for name in TABLES)
    assert report_page(run.manifest, run.tables()) == report_page(manifest, tables)


def test_a_frontier_is_read_back_too(tmp_path):
    manifest, tables = frontier()
    run = open_outcome(write_run(tmp_path / "run", (manifest, tables)))
    assert report_page(run.manifest, run.tables()) == report_page(manifest, tables)
    assert 'id="frontier-chart"' in run.charts["frontier"].page()


def spoil(name, content):
    def change(folder):
        (folder / name).write_bytes(content)

    return change


def exchange(name, old, new):
    def change(folder):
        (folder / name).write_bytes((folder / name).read_bytes().replace(old, new))

    return change


SPOILT = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "holds no manifest.json"),
    "a manifest that is no JSON": (spoil("manifest.json", b"{"), "manifest.json: is not JSON"),
    "a manifest of something else": (spoil("manifest.json", b'{"plan": {}}'), "is not a manifest of narrowcast"),
    "a manifest that is a list": (spoil("manifest.json", b"[]"), "is not a manifest of narrowcast"),
    "a manifest with another score": (
        exchange("manifest.json", b"0.49", b"0.48"),
        "was changed after the run wrote it",
    ),
    "a manifest without its digest": (exchange("manifest.json", b"digest", b"digset"), "it lacks digest"),
    "a table that is gone": (lambda folder: (folder / "search.arrow").unlink(), "search.arrow: is not there"),
    "a table cut short": (
        lambda folder: (folder / "search.arrow").write_bytes((folder / "search.arrow").read_bytes()[:-9]),
        "search.arrow: not an Arrow file",
    ),
    "a table of another kind": (
        lambda folder: (folder / "search.arrow").write_bytes((folder / "layers.arrow").read_bytes()),
        "search.arrow: has no column step",
    ),
    "a table of another run": (
        lambda folder: (folder / "search.arrow").write_bytes(to_ipc(missed()[1]["search"])),
        "search.arrow: is not the table that this run wrote",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_folder_that_is_no_whole_run_is_refused_by_name(folder, case):
    change, said = SPOILT[case]
    change(folder)
    with pytest.raises(InputError) as refused:
        open_outcome(folder).tables()
    assert said in str(refused.value)


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_outcome(tmp_path / "none")


def test_an_unknown_table_is_an_error_that_lists_them(folder):
    with pytest.raises(InputError, match="there are layers, calibration, sensitivity, search"):
        open_outcome(folder).table("losses")


def test_tables_become_data_frames(folder):
    pytest.importorskip("pandas")
    frame = open_outcome(folder).to_pandas("search")
    assert list(frame["step"]) == [0, 1, 2]


def test_tables_become_polars_frames(folder):
    pytest.importorskip("polars")
    assert open_outcome(folder).to_polars("search")["step"].to_list() == [0, 1, 2]


def test_a_notebook_shows_verdict_and_scores_without_scripts(tmp_path):
    page = open_outcome(write_run(tmp_path / HOSTILE.replace("/", ""), mixed()))._repr_html_()
    assert "Target met" in page and "2 of 3 layers" in page and "L2 distance (target)" in page
    assert "<script" not in page and "<img" not in page
    assert "Target missed" in open_outcome(write_run(tmp_path / "missed", missed()))._repr_html_()


def test_a_notebook_shows_frontier_and_ranking_in_a_frame_and_without_tables_none(tmp_path):
    run = open_outcome(write_run(tmp_path / "run", frontier()))
    shown = html.unescape(run._repr_html_())
    assert all(part in shown for part in ("<iframe", 'id="frontier-chart"', 'id="plan-line"', 'id="loss-chart"'))
    (run.folder / "search.arrow").unlink()
    assert "<iframe" not in run._repr_html_() and "Target met" in run._repr_html_()


def test_charts_are_objects_that_save_themselves(folder, tmp_path):
    charts = open_outcome(folder).charts
    assert list(charts) == ["search", "loss", "tensors"]
    for name, chart in charts.items():
        page = chart.save(tmp_path / f"{name}.html").read_text()
        assert f'id="{"tensor" if name == "tensors" else name}-chart"' in page
        assert "default-src 'none'" in page
        framed = chart._repr_html_()
        assert framed.startswith("<iframe") and "<script" not in framed and 'sandbox="allow-scripts"' in framed
    assert [point["chosen"] for point in charts["search"].data["points"]] == [False, True, False]


def test_a_score_that_was_no_number_is_read_back_as_none(tmp_path):
    manifest, tables = mixed()
    infinite = changed(manifest, {"scores.mixed.sqnr_db": math.inf})
    run = open_outcome(write_run(tmp_path / "run", (infinite, tables)))
    assert run.manifest.scores.mixed["sqnr_db"] is None
    assert "not a number" in report_page(run.manifest, run.tables())
    assert "not a number" in run._repr_html_()
