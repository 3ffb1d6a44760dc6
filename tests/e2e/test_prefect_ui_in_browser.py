"""What a run leaves in Prefect's own UI, against a real server, in a real browser. PICTURES=DIR keeps what was seen."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from quant_core.results.outcome import Outcome, open_outcome
from tests.e2e.browser import chromium
from tests.e2e.prefect_server import prefect_server

DEMO = [sys.executable, "-m", "flows.command_line", "demo", "--out", "out", "--workspace", "workspace"]
PREFECTS_OWN = "/ico/undefined.svg"
"""The one file its pages ask for in vain: an icon for the state of a run that they have not read yet."""


@dataclass
class Run:
    url: str
    """Of the UI."""
    flow_run: dict[str, Any]
    artifacts: dict[str, str]
    """Ids by key."""
    deployment: str
    outcome: Outcome

    @property
    def page(self) -> str:
        return f"/runs/flow-run/{self.flow_run['id']}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The demo, on a server that is still there; and a deployment of the flow."""
    folder = tmp_path_factory.mktemp("ui")
    with prefect_server(folder / "server", ui=True) as server:
        done = subprocess.run(DEMO, cwd=folder, env=server.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        [flow_run] = server.post("/flow_runs/filter", {})
        found = server.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run["id"]]}}})
        artifacts = {artifact["key"]: artifact["id"] for artifact in found if artifact["key"]}
        server.deploy("auto-mixed-precision")
        [deployment] = server.post("/deployments/filter", {})
        yield Run(server.url.removesuffix("/api"), flow_run, artifacts, deployment["id"], open_outcome(folder / "out"))


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def opened(run, browser, request):
    """Opens a page of the UI at the width of a laptop; at the end, nothing of ours may have been asked for in vain."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    refused = []
    page.on("response", lambda response: refused.append(response.url) if response.status >= 400 else None)

    def open_page(route):
        page.goto(f"{run.url}{route}")
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    if pictures := os.environ.get("PICTURES"):
        page.screenshot(path=f"{pictures}/{request.node.name}.png")
    page.close()
    assert all(url.endswith(PREFECTS_OWN) for url in refused), refused


def seen(page, *texts):
    for text in texts:
        page.get_by_text(text, exact=True).locator("visible=true").first.wait_for(timeout=20_000)


def test_the_flow_run_says_what_it_is(opened, run):
    page = opened(run.page)
    seen(page, "digits_cnn.onnx to a8w8 · l2 <= 0.6", "narrowcast", "a8w8", "l2", "Completed", "auto-mixed-precision")


def test_its_tasks_say_what_they_do(opened, run):
    page = opened(run.page)
    page.get_by_text("Task Runs", exact=True).first.click()
    seen(page, "verify the written file on holdout.npz", "rank 14 layers")
    for number in range(1, 5):
        assert page.get_by_text(f"search round {number} · ").count()


def test_its_artifacts_are_listed(opened, run):
    page = opened(run.page)
    page.get_by_text("Artifacts", exact=True).first.click()
    seen(page, *(f"narrowcast-{name}" for name in ("verdict", "sensitivity", "probing", "model", "report")))


def test_the_verdict_is_there_whole(opened, run):
    page = opened(f"/artifacts/artifact/{run.artifacts['narrowcast-verdict']}")
    seen(page, "Target met.", "L2 distance", "held-out")
    table = page.locator(".markdown-renderer__table")
    assert table.evaluate("table => table.scrollWidth - table.clientWidth") <= 0
    assert table.locator("tr").count() == 7


def test_the_sensitivity_table_has_every_probe(opened, run):
    page = opened(f"/artifacts/artifact/{run.artifacts['narrowcast-sensitivity']}")
    seen(page, "/stem/conv/Conv", "shipped as")
    assert page.locator("table tbody tr").count() == run.outcome.table("sensitivity").num_rows


def test_the_progress_is_complete(opened, run):
    page = opened(f"/artifacts/artifact/{run.artifacts['narrowcast-probing']}")
    seen(page, "How far probing the layers is", "Progress: 100%")


@pytest.mark.parametrize("name", ["model", "report"])
def test_the_links_say_where_the_files_are(opened, run, name):
    page = opened(f"/artifacts/artifact/{run.artifacts[f'narrowcast-{name}']}")
    seen(page, str(getattr(run.outcome, name)))
    assert page.get_by_role("link", name=str(run.outcome.folder)).get_attribute("href").startswith("file:///")


def test_the_form_explains_every_parameter(opened, run):
    page = opened(f"/deployments/deployment/{run.deployment}/run")
    seen(page, "path or URL of the float ONNX model (s3://, gs://, https:// ...).")
    assert page.get_by_text("Precision of every layer that is not narrowed.").count()
