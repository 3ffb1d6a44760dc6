"""What a person sees of a run."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from rich.console import Console

from flows.command_line.inspection_table import print_inspection
from flows.command_line.outcome_tables import print_outcome
from flows.command_line.terminal import TerminalWatcher, console
from quant_core.config import Target
from quant_core.report.sentences.verdict import verdict
from quant_core.storage.schemas import SENSITIVITY
from quant_core.storage.tables import to_ipc
from tests.reports import changed, mixed

L2 = Target(metric="l2", limit=0.5)


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), width=120)


def shown(screen: Console) -> list[str]:
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def told(watcher: TerminalWatcher, *stages: str, cached: bool = False):
    for stage in stages:
        watcher.started(stage)
        watcher.finished(stage, 0.25, cached)


def test_a_run_is_a_line_for_each_stage_and_each_plan(screen):
    watcher = TerminalWatcher(screen, L2)
    with watcher.shown():
        told(watcher, "prepare", cached=True)
        told(watcher, "calibrate", "baseline", "baseline")
        watcher.tried("all layers wide", 0.125, True)
        told(watcher, "search")
        watcher.tried("9 of 9 layers narrowed", 0.75, False)
        watcher.expects("probe", 4)
        watcher.started("probe")
        watcher.advanced("probe", 4)
        watcher.finished("probe", 0.25, False)
        told(watcher, "probe", "search")
        watcher.tried("4 of 9 layers narrowed", 0.375, True)
        told(watcher, "export", "verify", "baseline", "verify")
    assert shown(screen) == [
        "prepare    from an earlier run",
        "calibrate  0.2 s",
        "baseline   0.5 s",
        "  all layers wide              l2 0.125      accepted",
        "  9 of 9 layers narrowed       l2 0.75       refused",
        "probe      0.5 s",
        "  4 of 9 layers narrowed       l2 0.375      accepted",
        "export     0.2 s",
        "verify     0.2 s",
        "held-out   0.5 s",
    ]


def test_a_stage_is_from_an_earlier_run_only_if_all_of_it_is(screen):
    watcher = TerminalWatcher(screen, L2)
    with watcher.shown():
        told(watcher, "baseline", cached=True)
        told(watcher, "baseline", cached=False)
    assert shown(screen) == ["baseline   0.5 s"]


def test_a_terminal_gets_a_bar_with_the_time_that_is_left():
    screen = Console(file=io.StringIO(), width=120, force_terminal=True)
    watcher = TerminalWatcher(screen, L2)
    with watcher.shown():
        watcher.started("prepare")
        watcher.expects("probe", 10)
        watcher.started("probe")
        watcher.advanced("probe", 5)
        [task] = watcher._progress.tasks
        assert (task.description, task.completed, task.total) == ("probe", 5, 10)
        watcher.expects("probe", 10)
        watcher.started("probe")
        [task] = watcher._progress.tasks
        assert (task.completed, task.total) == (5, 20)
        watcher.started("search")
        watcher.expects("evaluate", 8)
        [task] = watcher._progress.tasks
        assert (task.description, task.completed, task.total) == ("search", 0, 8)
        watcher._progress.refresh()
    assert " left" in screen.file.getvalue()


def test_what_was_mended_is_said_on_standard_error(screen, capsys):
    TerminalWatcher(screen, L2).warned("a result of [probe] is computed again")
    captured = capsys.readouterr()
    assert captured.err == "narrowcast: a result of [probe] is computed again\n"
    assert shown(screen) == []


def test_no_colour_and_room_for_a_table_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    screen = console()
    assert screen.width == 120
    screen.print("[green]plain[/]")
    assert capsys.readouterr().out == "plain\n"


def test_no_colour_on_a_terminal_that_wants_none(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = console()
    with screen.capture() as captured:
        screen.print("[green]plain[/]")
    assert captured.get() == "plain\n"


@pytest.fixture
def manifest():
    changes = {
        "plan": {"[stem]": "a16w8", "head": "a8w8"},
        "scores": {"float": {"top1": 0.5}, "wide": {"l2": 0.1}, "mixed": {"l2": 0.4}, "holdout": {"l2": 0.6}},
        "standard_errors": {},
        "narrowed": {"layers": 1, "of": 2, "macs_share": 0.25, "bops_ratio": 0.875},
    }
    return changed(mixed()[0], changes)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]


def test_the_outcome_shows_layers_scores_and_verdict(screen, tmp_path, manifest):
    row = {"standard_error": 0.0, "samples": 1, "seconds": 0.0, "bops_saved": 0, "bytes_saved": 0}
    rows = [{"layer": "[stem]", "precision": "a8w8", "loss": 0.5}, {"layer": "head", "precision": "a8w8", "loss": 0.25}]
    table = pa.Table.from_pylist([given | row for given in rows], schema=SENSITIVITY)
    (tmp_path / "sensitivity.arrow").write_bytes(to_ipc(table))
    print_outcome(screen, manifest, str(tmp_path))
    lines = shown(screen)
    assert [cells(line) for line in lines if "│" in line or "┃" in line] == [
        ["layer", "precision", "loss when narrow"],
        ["[stem]", "a16w8", "0.5"],
        ["head", "a8w8", "0.25"],
        ["metric", "float", "wide", "mixed", "mixed, held-out"],
        ["top1", "0.5", "", "", ""],
        ["l2", "", "0.1", "0.4", "0.6"],
    ]
    assert lines[-3:-1] == [
        f"Target met. {verdict(manifest)}",
        "On the held-out data the same model misses the target.",
    ]
    assert lines[-1] == f"model and report are in {tmp_path}"


def test_without_held_out_data_or_probes_there_is_no_such_column(screen, tmp_path, manifest):
    print_outcome(screen, changed(manifest, {"scores.holdout": {}}), str(tmp_path))
    text = screen.file.getvalue()
    assert "held-out" not in text and "loss" not in text


def test_inspection_shows_layers_and_what_is_left_alone(screen):
    layer = {"layer": "[stem]", "op": "Conv", "weight_shapes": [[8, 3, 3, 3]], "macs": 1000, "weight_bytes": 864}
    found = {
        "layers": [layer],
        "open": [],
        "signature": {"image": "samples on axis 0"},
        "states": ["h=hn"],
        "total": {"macs": 1000, "weight_bytes": 864},
        "left_alone": [{"op": "LSTM", "nodes": 2, "why": "an operator without a quantized form here"}],
    }
    print_inspection(screen, found)
    lines = shown(screen)
    assert cells(lines[4]) == ["[stem]", "Conv", "8x3x3x3", "1,000", "864"]
    assert lines[-4:] == [
        "1 layers, 1,000 MACs a sample, 864 weight bytes",
        "image: samples on axis 0",
        "h: looks like a state that hn gives for the next step; if it is one, add --state h=hn",
        "left alone: 2 LSTM: an operator without a quantized form here",
    ]
