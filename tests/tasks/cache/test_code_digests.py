"""When the digests that an earlier run has kept are taken."""

from __future__ import annotations

import pytest

from tasks.cache import code_digests, sources
from tasks.cache.code_digests import kept_code_digest

MODULE = "quant_core.numerics"


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Return a function for the digest that another process would find, where `sources` would find the given one."""
    monkeypatch.setenv("NARROWCAST_CACHE", str(tmp_path))

    def digest(computed: str, files: str | None = None) -> str:
        kept_code_digest.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(sources, "code_digest", lambda module: computed)
            if files is not None:
                patch.setattr(code_digests, "_files_digest", lambda: files)
            return kept_code_digest(MODULE)

    yield digest
    kept_code_digest.cache_clear()


def test_what_an_earlier_run_found_is_taken(found):
    assert found("first") == "first"
    assert found("second") == "first"


def test_an_edited_file_of_the_engine_makes_it_be_found_again(found):
    assert found("first") == "first"
    assert found("second", files="of another engine") == "second"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 1}', b"\xff"], ids=["empty", "a list", "short", "bytes"])
def test_a_damaged_file_makes_it_be_found_again(found, tmp_path, content):
    found("first")
    (tmp_path / "code_digests.json").write_bytes(content)
    assert found("second") == "second"


def test_a_cache_that_cannot_be_written_to_is_done_without(found, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("NARROWCAST_CACHE", str(tmp_path / "a file"))
    assert found("first") == "first"
