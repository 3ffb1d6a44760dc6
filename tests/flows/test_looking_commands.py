"""Commands that look at results, help, completion and colours: nothing here runs a flow."""

import json
import os
import re
import subprocess
import sys

import pytest

from flows import command_line
from flows.command_line.progress_lines import ProgressLines
from flows.command_line.terminal import console
from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.precision import PrecisionPlan
from quant_core.report.page import report_page
from tests.reports import changed, mixed, write_run


def test_report_makes_the_page_again_from_the_tables(command, tmp_path):
    folder = write_run(tmp_path / "run", mixed())
    assert command("report", str(folder)) == (0, f"{folder / 'report.html'}\n", "")
    assert (folder / "report.html").read_text() == report_page(*mixed())
    command("report", str(folder), "--out", str(tmp_path / "elsewhere.html"))
    assert (tmp_path / "elsewhere.html").read_text() == report_page(*mixed())


def test_report_of_no_run_is_one_line_and_exit_code_2(command, tmp_path):
    code, output, errors = command("report", str(tmp_path))
    assert (code, output) == (2, "")
    assert errors == f"narrowcast: {tmp_path}: holds no manifest.json, so no run has finished there\n"


def test_compare_shows_both_and_what_differs(command, tmp_path):
    manifest, tables = mixed(("conv", "dense", "head"))
    other = changed(manifest, {"plan.dense": "a16w8", "data": {"evaluation": "9" * 64}})
    folders = [write_run(tmp_path / name, run) for name, run in (("a", (manifest, tables)), ("b", (other, tables)))]
    code, output, errors = command("compare", *map(str, folders))
    assert (code, errors) == (0, "")
    assert "take care: not the same evaluation data" in output
    assert re.search(r"dense\W+a8w8\W+a16w8\W+0\.00100 at a8w8", output)
    assert "1 of 3 layers differ in precision" in output
    code, output, _ = command("compare", *map(str, folders), "--json")
    assert [layer["layer"] for layer in json.loads(output)["layers"]] == ["dense"]


@pytest.mark.parametrize("name", command_line.narrowcast.commands)
def test_every_command_has_an_example_in_its_help(command, name):
    code, output, _ = command(name, "--help")
    assert code == 0
    assert f"narrowcast {name}" in output.split("Options")[0].replace("Usage: narrowcast", "")
    assert "\\b" not in output


def test_help_of_auto_is_in_groups(command):
    _, output, _ = command("auto", "--help")
    headings = re.findall(r"^(\w.*):$", output, re.M)
    assert headings[:3] == ["Data and output", "Target, or budget, or both", "Precisions"]
    assert output.index("Target, or budget, or both") < output.index("--max-l2") < output.index("Precisions:")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_the_shell(command, shell):
    code, output, _ = command("completion", shell)
    assert code == 0
    assert "_NARROWCAST_COMPLETE" in output


def test_completion_without_a_shell_says_which_there_are(command, monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    code, _, errors = command("completion")
    assert (code, errors) == (2, "narrowcast: give a shell: bash, zsh, fish\n")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("narrowcast comp", ["compare", "completion"]),
        ("narrowcast auto --calibrate pow2", ["pow2-nonoverflow", "pow2-minmse"]),
        ("narrowcast auto --search li", ["linear"]),
    ],
)
def test_what_is_completed(words, offered):
    environment = {
        **os.environ,
        "_NARROWCAST_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from flows.command_line import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [f"plain,{value}" for value in offered]


def test_colours_are_for_terminals_and_no_color_is_heeded(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console().print("[green]accepted[/]")
    assert capsys.readouterr().out == "accepted\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console().print("[green]accepted[/]")
    assert "\x1b[32m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    console().print("[green]accepted[/]")
    assert "accepted" in (said := capsys.readouterr().out) and "[32m" not in said


def test_a_long_stage_in_a_pipe_tells_how_far_it_is_now_and_then(capsys):
    now = [0.0]
    lines = ProgressLines(console(), clock=lambda: now[0])
    lines.begin("probe")
    lines.lengthen(100)
    for _ in range(99):
        now[0] += 2.0
        lines.advance(1)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "probe      8%, about 3 min left"
    assert said[-1] == "probe      96%, about 8 s left"
    assert len(said) == 12


def test_pick_writes_a_result_that_report_and_compare_take(command, job, tmp_path):
    config = config_from(target={"metric": "l2", "limit": 0.005}, wide="a16w16", frontier=True)
    run = tmp_path / "run"
    data = {name: job[name] for name in ("calibration", "evaluation")}
    auto_mixed_precision(job["model"], **data, config=config, output=run)
    picked, workspace = str(run / "picked"), ("--workspace", str(tmp_path / "ws"))
    code, output, errors = command("pick", str(run), "--max-bops", "0.5", "--metric", "kl", *workspace)
    assert (code, errors) == (0, "")
    assert "within the budget of 50.0%" in output and picked in output
    assert command("report", picked)[0] == command("compare", str(run), picked)[0] == 0
    code, text, _ = command("report", str(run), "--markdown")
    assert code == 0 and text.startswith("**Target met.**") and "**The next half decibel.**" in text
    code, text, _ = command("compare", str(run), picked, "--markdown")
    assert code == 0 and f"|  | A: {run} | B: {picked} |".replace("_", "\\_") in text
    code, output, _ = command("compare", str(run), picked, "--out", str(tmp_path / "both.html"))
    page = (tmp_path / "both.html").read_text()
    assert code == 0 and 'id="loss-chart"' in page and 'id="search-chart"' not in page, "their metrics differ"
    assert command("compare", str(run), picked, "--out", "x.html", "--json")[0] == 2
    plan = json.loads((run / "manifest.json").read_text())["plan"]
    digest = PrecisionPlan.from_dict(plan).digest
    assert command("pick", str(run), "--plan", digest[:8], "--out", str(tmp_path / "same"), *workspace)[0] == 0
    assert json.loads((tmp_path / "same" / "manifest.json").read_text())["plan"] == plan
    code, _, errors = command("pick", str(run), "--plan", "xyz", *workspace)
    assert code == 2 and errors.startswith(
        "narrowcast: plan xyz: none of the plans on the frontier have names that begin so: "
    )
    code, _, errors = command("pick", str(run), "--max-bops", "0.2", *workspace)
    assert (code, errors[:58]) == (3, "narrowcast: no plan on the frontier is within bops <= 0.2 ")


def test_pick_says_in_one_line_what_is_missing(command, tmp_path):
    folder = write_run(tmp_path / "run", mixed())
    code, _, errors = command("pick", str(folder), "--max-l2", "0.1", "--workspace", str(tmp_path / "ws"))
    assert (code, errors) == (
        2,
        f"narrowcast: {folder}: kept no frontier to pick from; run `narrowcast auto` with --frontier\n",
    )
    code, _, errors = command("pick", str(folder), "--max-l2", "0.1", "--min-sqnr", "20")
    assert code == 2 and errors.startswith("narrowcast: give one target, or budgets, or both: --max-top1-drop")
