"""docs/runtimes.md says what the profiles say."""

from __future__ import annotations

from pathlib import Path

from tests.docs.runtime_page import runtime_page


def test_the_page_of_runtimes_is_that_of_the_profiles():
    """Where it is not, make it again: python -m tests.docs.runtime_page > docs/runtimes.md"""
    page = Path(__file__).parents[2] / "docs" / "runtimes.md"
    assert page.read_text(encoding="utf-8") == runtime_page()
