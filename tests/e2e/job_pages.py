"""The commands of docs/jobs, run as they stand in environments that have only what a page says to install.

    python -m tests.e2e.job_pages                  # all pages, but for what takes minutes
    python -m tests.e2e.job_pages speech --long    # one page, and all of it

Pages that ask for the same share an environment. In a folder with the demo's model and data, page by page; commands of
this repository's own tests are run in the repository.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from flows.demo import write_example
from tests.docs.blocks import Block, blocks_of, run

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "jobs"
_EXTRA = "it needs the extra"
_OF_THE_REPOSITORY = "python -m tests."
_LONGEST = 3600.0


def requirements_of(pair: tuple[Path, Block]) -> tuple[str, ...]:
    """Return what the page of a block says to install, narrowcast among it, as pip takes it."""
    said = re.findall(r"`pip install ([^`]+)`", pair[0].read_text(encoding="utf-8"))
    named = [word.strip("'\"") for line in said for word in line.split()]
    extras = sorted(name for word in named for name in re.findall(r"^narrowcast\[(.+)\]$", word))
    others = sorted(word for word in named if not word.startswith("narrowcast"))
    return (f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT), *others)


def environment_with(wanted: tuple[str, ...], folder: Path) -> dict[str, str]:
    """Make an environment of its own in a folder; return the variables of a shell in which it is active."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([folder / "venv/bin/python", "-m", "pip", "install", "--quiet", *wanted], check=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {
        "PATH": f"{folder / 'venv/bin'}{os.pathsep}{kept['PATH']}",
        "NARROWCAST_WORKSPACE": str(folder / "workspace"),
        "PREFECT_HOME": str(folder / "prefect"),
    }


def fill(folder: Path) -> None:
    """Write the demo's model and data to a folder, by the names that the pages give them."""
    example = write_example(folder / "example")
    for part in ("calibration", "evaluation"):
        shutil.copy(example[part], folder / f"{part}.npz")
    shutil.copy(example["model"], folder / "model.onnx")


def is_run(block: Block, long: bool) -> bool:
    """Return whether a block is run where what the page says to install is there."""
    return long or block.not_run is None or block.not_run.startswith(_EXTRA)


def seconds_of(block: Block, folder: Path, environment: dict[str, str], long: bool) -> float:
    """Run a block; how long that takes. Raises AssertionError where it fails."""
    began = time.monotonic()
    place = ROOT if _OF_THE_REPOSITORY in block.text else folder
    run(replace(block, not_run=None), place, environment, _LONGEST if long else 240)
    return time.monotonic() - began


def main() -> int:
    """Run pages, each in an environment that has what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="names of pages; all by default")
    parser.add_argument("--long", action="store_true", help="run what takes minutes, too")
    given = parser.parse_args()
    pages = [page for page in sorted(PAGES.glob("*.md")) if not given.pages or page.stem in given.pages]
    blocks = [(page, block) for page in pages for block in blocks_of(page)]
    for page, block in blocks:
        if not is_run(block, given.long):
            print(f"{page.name}, line {block.line}: not run: {block.not_run}", flush=True)
    run_here = sorted((pair for pair in blocks if is_run(pair[1], given.long)), key=requirements_of)
    for wanted, alike in groupby(run_here, requirements_of):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            fill(folder)
            environment = environment_with(wanted, folder)
            for page, block in alike:
                took = seconds_of(block, folder, environment, given.long)
                print(f"{page.name}, line {block.line}: as it says, {took:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
