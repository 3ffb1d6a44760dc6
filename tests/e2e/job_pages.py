"""The commands of docs/jobs, run as they stand: python -m tests.e2e.job_pages

In a folder with the demo's model and data, page by page; what a page says is not run is left out.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from flows.demo import write_example
from tests.docs.blocks import blocks_of, run

PAGES = Path(__file__).parents[2] / "docs" / "jobs"


def main() -> int:
    """Run every page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        example = write_example(folder / "example")
        for part in ("calibration", "evaluation"):
            shutil.copy(example[part], folder / f"{part}.npz")
        shutil.copy(example["model"], folder / "model.onnx")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "NARROWCAST_WORKSPACE": str(folder / "workspace")}
        for page in sorted(PAGES.glob("*.md")):
            for block in blocks_of(page):
                run(block, folder, environment)
                print(
                    f"{page.name}, line {block.line}: {f'not run: {block.not_run}' if block.not_run else 'as it says'}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
