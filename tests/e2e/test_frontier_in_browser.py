"""A point of the frontier in a real browser: chosen by mouse and by keys, and the copied line written as a model."""

from __future__ import annotations

import json
import os
import shlex
import sys
from unittest.mock import patch

import numpy as np
import pytest

from flows import command_line
from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.report.charts.frontier import frontier_chart
from quant_core.report.text import metric_text
from quant_core.results.outcome import open_outcome
from tests.e2e.browser import chromium
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a frontier, in a folder whose name a shell would split."""
    folder = tmp_path_factory.mktemp("a frontier")
    model = MODELS["chain"]()
    calibration = samples(model, 12, 1)
    np.savez(folder / "calibration.npz", **calibration)
    np.savez(folder / "evaluation.npz", **{name: array[:8] for name, array in calibration.items()})
    target = {"metric": "l2", "limit": 0.02}
    return auto_mixed_precision(
        saved(model, folder),
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        config=config_from(target=target, wide="a16w16", narrow=["a16w8", "a8w8", "a8w4"], frontier=True),
        output=folder / "out",
        workers=1,
        cache=folder / "workspace" / "cache",
    )


@pytest.fixture(params=[True, False], ids=["clipboard", "selection"])
def page(run, request):
    """The run's report, where the page may use the clipboard and where it has to copy what is selected."""
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        if not request.param:
            page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))")
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(run.report.as_uri())
        page.wait_for_selector("#frontier-chart svg")
        yield page
        assert not complaints


def by_mouse(page, place):
    mark = page.locator("#frontier-chart .points > *").nth(place)
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    mark.click(force=True)


def by_keys(page, place):
    page.locator("#frontier-chart").focus()
    for _ in range(place + 1):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")


def by_list(page, place):
    page.get_by_label("Plan", exact=True).select_option(str(place))


def written_by(line, run):
    """The result that a line writes, run by the command line as it stands."""
    program, *arguments = shlex.split(line)
    workspace = {"NARROWCAST_WORKSPACE": str(run.folder.parent / "workspace")}
    with patch.dict(os.environ, workspace), patch.object(sys, "argv", [program, *arguments]):
        command_line.main()
    return open_outcome(arguments[arguments.index("--out") + 1])


@pytest.mark.parametrize("choose", [by_mouse, by_keys, by_list])
def test_the_line_of_a_chosen_plan_writes_a_model_that_scores_as_shown(run, page, choose):
    points = frontier_chart(run.manifest, run.table("frontier"))["points"]
    shipped = next(place for place, point in enumerate(points) if point["chosen"])
    place = (shipped + 2) % len(points)
    assert "shipped" in page.locator("#plan-said").text_content()
    assert not page.locator("#plan-line").is_visible()
    choose(page, place)
    assert page.get_by_label("Plan", exact=True).input_value() == str(place)
    page.locator("#plan-changes summary").click()
    changes = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts()
        for row in page.locator("#plan-changes tbody tr").all()
    }
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied", exact=True).wait_for()
    found = written_by(page.evaluate("navigator.clipboard.readText()"), run)
    before = run.manifest.plan
    assert changes == {name: [before[name], new] for name, new in found.manifest.plan.items() if new != before[name]}
    assert changes
    said = page.locator("#plan-said").text_content()
    assert f"L2 distance: {metric_text('l2', found.manifest.scores.mixed['l2'])}." in said
    assert f"{found.manifest.narrowed.bops_ratio:.1%} of the bit operations" in said


def test_arrow_keys_go_on_from_the_chosen_plan_and_back_to_the_shipped_one(run, page):
    points = frontier_chart(run.manifest, run.table("frontier"))["points"]
    shipped = next(place for place, point in enumerate(points) if point["chosen"])
    by_keys(page, 0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.get_by_label("Plan", exact=True).input_value() == "1"
    by_list(page, shipped)
    assert "This is the shipped plan" in page.locator("#plan-said").text_content()
    assert not page.locator("#plan-line").is_visible() and not page.locator("#plan-changes").is_visible()


def test_a_notebook_shows_a_frontier_that_can_be_held_without_any_request(run, tmp_path):
    """A notebook puts what `_repr_html_` gives into its page; JupyterLab and VS Code leave frames alone."""
    (tmp_path / "cell.html").write_text(f"<!doctype html><title>cell</title>{open_outcome(run.folder)._repr_html_()}")
    points = frontier_chart(run.manifest, run.table("frontier"))["points"]
    place = next(place for place, point in enumerate(points) if not point["chosen"])
    complaints, requests = [], []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 900, "height": 1200})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "cell.html").as_uri())
        frame = page.frame_locator("iframe")
        frame.locator("#loss-chart .points > *").first.wait_for()
        for key in ["ArrowRight"] * (place + 1) + ["Enter"]:
            frame.locator("#frontier-chart").press(key)
        assert frame.locator("#plan-line pre").text_content().startswith("narrowcast pick ")
        frame.get_by_role("button", name="Copy").click()
        frame.get_by_text("Copied", exact=True).wait_for()
        inside = frame.locator("html").evaluate("page => [page.scrollWidth, page.clientWidth]")
        assert inside[0] <= inside[1]
        if pictures := os.environ.get("PICTURES"):
            page.screenshot(path=f"{pictures}/notebook.png", full_page=True)
    assert not complaints and requests == [(tmp_path / "cell.html").as_uri()]


def test_every_plan_of_the_frontier_has_a_line_that_writes_just_it(run):
    frontier = run.table("frontier")
    plans = {row["l2"]: json.loads(row["precisions"]) for row in frontier.to_pylist()}
    others = [point for point in frontier_chart(run.manifest, frontier)["points"] if not point["chosen"]]
    assert len(others) >= 3
    for point in others:
        assert written_by(point["pick"], run).manifest.plan == plans[point["score"]]
