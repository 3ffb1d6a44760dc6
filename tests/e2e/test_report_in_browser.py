"""The report in a real browser: drawn, quiet, self-contained, usable by pointer, keyboard and screen reader."""

from __future__ import annotations

import pytest

from quant_core.report.page import report_page
from tests.e2e.browser import chromium
from tests.reports import everything_narrow, frontier, ladder, missed, mixed, own_metric

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")

RUNS = {
    "mixed": mixed,
    "missed": missed,
    "everything narrow": everything_narrow,
    "metric": own_metric,
    "ladder": ladder,
    "frontier": frontier,
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a run's report; at the end, nothing may have been complained of, asked for, or carried out."""
    pages, complaints, requests = [], [], []

    def open_report(run, width=1280, scheme="light"):
        file = tmp_path / "report.html"
        file.write_text(report_page(*run()), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("#search-chart svg")
        pages.append(page)
        return page

    yield open_report
    assert not any(page.evaluate("window.broken") for page in pages)
    for page in pages:
        page.close()
    assert not complaints
    assert requests == [(tmp_path / "report.html").as_uri()] * len(pages)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("run", RUNS)
def test_it_is_drawn_and_accessible(opened, run, width, scheme):
    page = opened(RUNS[run], width, scheme)
    probed = run in ("mixed", "metric", "ladder", "frontier")
    assert page.locator("#search-chart .points circle, #search-chart .points path").count() == (
        1 if run == "missed" else 3
    )
    assert page.locator("#frontier-chart .points > *").count() == (4 if run == "frontier" else 0)
    assert (page.locator("#loss-chart .points > *").count() > 0) == probed
    assert page.locator("#tensor-chart .points rect").count() > 20
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    judged = axe.Axe().run(page, options={}).response
    assert judged["violations"] == []
    # It cannot tell the background of text in a drawing: test_report.py compares those colours.
    assert {rule["id"] for rule in judged["incomplete"]} <= {"color-contrast"}
    assert {"color-contrast", "select-name", "region"} <= {rule["id"] for rule in judged["passes"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_chosen_plan_of_the_frontier_is_shown_accessibly(opened, width, scheme):
    page = opened(frontier, width, scheme)
    page.get_by_label("Plan", exact=True).select_option("3")
    page.locator("#plan-changes summary").click()
    assert page.locator("#plan-line pre").is_visible() and page.locator("#plan-changes tbody tr").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    judged = axe.Axe().run(page, options={}).response
    assert judged["violations"] == []


def test_the_colours_follow_the_system(opened):
    light, dark = (opened(mixed, scheme=scheme) for scheme in ("light", "dark"))
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    assert light.evaluate(colour) == "rgb(255, 255, 255)"
    assert dark.evaluate(colour) != light.evaluate(colour)


@pytest.mark.parametrize("chart", ["search", "frontier", "loss", "tensor"])
@pytest.mark.parametrize("width", [1280, 390])
def test_hovering_tells_more_and_stays_on_the_page(opened, chart, width):
    page = opened(frontier, width)
    tip = page.locator(f"#{chart}-chart .tip")
    assert not tip.is_visible()
    marks = page.locator(f"#{chart}-chart .points > *")
    mark = marks.nth(marks.count() // 2)
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    assert tip.is_visible()
    said = {"search": "L2 distance", "frontier": "of the bit operations", "loss": "in the ranking", "tensor": "values"}
    assert said[chart] in tip.inner_text()
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    page.mouse.move(1, 1)
    assert not tip.is_visible()


@pytest.mark.parametrize("chart", ["search", "frontier", "loss", "tensor"])
def test_arrow_keys_step_through_a_chart_and_are_spoken(opened, chart):
    page = opened(frontier)
    page.locator(f"#{chart}-chart").focus()
    spoken = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        spoken.append(page.locator(f"#{chart}-chart ~ .said").text_content())
    assert all(spoken)
    assert spoken[0] == spoken[2] != spoken[1]
    assert page.locator(f"#{chart}-chart .tip").is_visible()
    page.keyboard.press("Tab")
    assert not page.locator(f"#{chart}-chart .tip").is_visible()


def test_any_tensor_can_be_chosen(opened):
    page = opened(mixed)
    names = page.locator("#tensor option").all_text_contents()
    assert len(names) == 3
    for index in range(len(names)):
        page.get_by_label("Tensor", exact=True).select_option(str(index))
        assert names[index].removesuffix(" in").split()[0] in page.locator("#tensor-facts").inner_text()
    assert page.locator("#tensor-facts tbody tr").count() == 2


def test_charts_follow_the_width(opened):
    page = opened(mixed)
    wide = page.locator("#loss-chart svg").bounding_box()["width"]
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_function("document.querySelector('#loss-chart svg').getBoundingClientRect().width < 380")
    assert wide > 800


def test_it_prints_light(opened):
    page = opened(mixed, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
