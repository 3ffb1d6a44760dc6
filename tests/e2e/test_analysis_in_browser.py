"""The page of an analysis in a real browser: drawn, quiet, and no wider than the window."""

from __future__ import annotations

import pytest

from quant_core.config import AnalysisConfig
from quant_core.pipeline.analyse import analyse
from tests.e2e.browser import chromium
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("analysis"), MODELS["residual"]()
    calibration = samples(model, 32, 1)
    calibration["x"][3].flat[0] = 90.0
    config = AnalysisConfig()
    analyse(
        saved(model, folder),
        calibration=calibration,
        evaluation=samples(model, 8, 2),
        config=config,
        output=folder / "out",
        workers=1,
    )
    return folder / "out" / "analysis.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_drawn_and_accessible(page_file, width):
    complaints = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_selector("#tensor-chart svg")
        assert page.locator("#loss-chart .points circle, #loss-chart .points path").count() == 3 * 2
        assert page.locator("#tensor option").first.text_content() == "x"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
    assert not complaints
