"""Takes the README's picture of a report: python -m tests.docs.picture narrowcast-demo/report.html docs/report.png"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

_SIZE = {"width": 1080, "height": 1800}


def picture(report: Path, file: Path) -> None:
    """The top of a report in a browser, as a PNG."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=_SIZE, color_scheme="light")
        page.goto(report.absolute().as_uri())
        page.wait_for_selector("#search-chart svg")
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    picture(given.report, given.file)
