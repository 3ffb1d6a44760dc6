"""The pages of an analysis and of a comparison in a real browser: drawn, quiet, and no wider than the window."""

from __future__ import annotations

import pytest

from quant_core.config import AnalysisConfig, LayerWiseConfig
from quant_core.pipeline.analyse import analyse
from quant_core.pipeline.file_comparison.compare_files import compare_files
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.results.comparison_page import comparison_page, file_charts
from tests.e2e.browser import chromium
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")


def analysis(folder):
    model = MODELS["residual"]()
    calibration = samples(model, 32, 1)
    calibration["x"][3].flat[0] = 90.0
    analyse(
        saved(model, folder),
        calibration=calibration,
        evaluation=samples(model, 8, 2),
        config=AnalysisConfig(),
        output=folder / "out",
        workers=1,
    )
    return folder / "out" / "analysis.html"


def comparison(folder):
    model = MODELS["chain"]()
    source, data = saved(model, folder), samples(model, 16)
    ours, theirs = (
        layer_wise(
            source, tensors={}, calibration=data, config=LayerWiseConfig(wide=wide), output=folder / wide, workers=1
        ).model
        for wide in ("a16w8", "a8w8")
    )
    found, errors = compare_files(ours, theirs, source, data)
    page = folder / "comparison.html"
    page.write_text(comparison_page(found, file_charts(errors)))
    return page


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return {made: made(tmp_path_factory.mktemp(made.__name__)) for made in (analysis, comparison)}


def analysis_is_drawn(page):
    page.wait_for_selector("#tensor-chart svg")
    assert page.locator("#loss-chart .points circle, #loss-chart .points path").count() == 3 * 2
    assert page.locator("#tensor option").first.text_content() == "x"


def comparison_is_drawn(page):
    page.wait_for_selector("#depth-chart svg")
    assert page.locator("#depth-chart .points circle").count() == 2 * 9
    assert page.locator(".samples li img").count() == 8
    page.locator("#depth-chart").press("ArrowRight")
    assert page.locator("#depth-chart .tip").inner_text().startswith("a\nA: ")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("made", "is_drawn"), [(analysis, analysis_is_drawn), (comparison, comparison_is_drawn)])
def test_it_is_drawn_and_accessible(pages, made, is_drawn, width):
    complaints = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(pages[made].as_uri())
        is_drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
    assert not complaints
