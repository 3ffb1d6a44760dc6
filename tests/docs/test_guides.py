"""Every command and program of the README and the guides is run as it is written there, page by page."""

import os
import re
import sys
from pathlib import Path

import pytest

from flows.demo import write_example
from flows.options.catalogue import auto_options
from tests.docs.blocks import blocks_of, run
from tests.docs.option_page import option_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BY_NAME = {page.stem: page for page in PAGES}
OWN_FILES = {"model": "model.onnx", "calibration": "calibration.npz", "evaluation": "evaluation.npz"}


@pytest.fixture
def readers_folder(tmp_path):
    """A folder with what a reader is taken to have: a model of their own, and data."""
    folder = tmp_path / "here"
    folder.mkdir()
    written = write_example(tmp_path / "example")
    for name, file in (OWN_FILES | {"holdout": "test.npz"}).items():
        (folder / file).write_bytes(Path(written[name]).read_bytes())
    return folder


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory):
    """One for all pages: Prefect's first start makes a database."""
    return str(tmp_path_factory.mktemp("prefect"))


@pytest.fixture
def environment(prefect_home, tmp_path):
    """As a reader has it who works on one page, with nothing remembered from another."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": prefect_home,
        "NARROWCAST_WORKSPACE": str(tmp_path / "workspace"),
    }


@pytest.mark.parametrize("page", BY_NAME)
def test_what_a_page_says_is_what_runs(page, readers_folder, environment):
    for block in blocks_of(BY_NAME[page]):
        run(block, readers_folder, environment)


@pytest.mark.parametrize("page", BY_NAME)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", BY_NAME[page].read_text(encoding="utf-8")):
        assert (BY_NAME[page].parent / target).exists(), target


def test_what_is_not_run_says_why():
    reasons = [block.not_run for page in PAGES for block in blocks_of(page) if block.not_run is not None]
    assert all(len(reason) > 10 for reason in reasons)


def test_every_option_is_on_its_page():
    page = option_page()
    assert all(f"`{option.flag}`" in page for option in auto_options())
