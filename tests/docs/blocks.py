"""The fenced blocks of a Markdown page, and how a reader runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks_of", "run"]

_FENCED = re.compile(r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
# The suite runs where all is installed; `.ci/run` gives the installing commands to a fresh environment.
_INSTALLED = "set -e; pip() { :; }; pytest() { :; }\n"


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    """`sh`, `python`, `yaml`, `text`."""
    text: str
    """What is in it."""
    file: str | None
    """The name the reader is told to save it under."""
    not_run: str | None
    """Why no test runs it, which the page says too."""
    line: int
    """Where it begins."""


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page. A comment before a block says `file: NAME` or `not run: WHY`."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCED.finditer(text):
        key, _, value = (found["note"] or "").partition(": ")
        yield Block(
            language=found["language"],
            text=found["text"],
            file=value if key == "file" else None,
            not_run=value if key == "not run" else None,
            line=text.count("\n", 0, found.start("text")),
        )


def run(block: Block, folder: Path, environment: dict[str, str], timeout: float = 240) -> None:
    """Do in a folder what a reader would do with the block; raises AssertionError with what was printed."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    if block.not_run or block.file or block.language not in ("sh", "python"):
        return
    command = ["bash", "-c", _INSTALLED + block.text] if block.language == "sh" else [sys.executable, "-c", block.text]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"line {block.line}: {block.text}\n{done.stdout}\n{done.stderr}"
