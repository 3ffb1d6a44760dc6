"""The commands of deployments/README.md, run as they stand: python -m tests.e2e.deployments

On one machine, against a Prefect server of its own with SQLite (on loopback and a free port), with one worker. Names
of the page's server and folder are replaced, and the schedule is taken away: the looks that are asked for must not
meet one that is due.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flows.demo import write_example
from tests.docs.blocks import Block, blocks_of
from tests.e2e.prefect_server import PrefectServer, eventually

ROOT = Path(__file__).parents[2]
_SERVER, _FOLDER = "http://SERVER:4200/api", "/srv/narrowcast"
_POOL_KINDS = ("docker", "kubernetes", "process")


class Reader:
    """Somebody who follows the page, on one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = PrefectServer(folder / "server", started=False)
        self.exported = ""

    def text(self, block: Block) -> str:
        """The block with this machine's names in it."""
        return block.text.replace(_SERVER, self.server.url).replace(_FOLDER, str(self.folder))

    def do(self, block: Block) -> None:
        """Run a block as the page means it: what goes on for ever goes on in the background."""
        text = self.text(block)
        said = text.strip().splitlines()[-1]
        print(f"line {block.line}: {said}", flush=True)
        if text.startswith("prefect server start"):
            self.server.start_server()
        elif said.startswith("prefect worker start"):
            self.server.background(said.split()[1:], "worker")
        else:
            self.run(text)
            self.exported += "".join(f"{line}\n" for line in text.splitlines() if line.startswith("export "))

    def run(self, text: str) -> str:
        """Run commands in the shell that has done all the exports so far."""
        path = f"export PATH={Path(sys.executable).parent}:$PATH\n"
        script = f"set -e\n{path}{self.exported}{text}"
        command = ["bash", "-c", script]
        done = subprocess.run(
            command, cwd=ROOT, env=self.server.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def run_page(folder: Path) -> None:
    """Follow the page, and look at what comes of each of its commands."""
    reader = Reader(folder)
    example = write_example(folder / "example")
    models = folder / "models"
    (models / "data").mkdir(parents=True)
    blocks = list(blocks_of(ROOT / "deployments" / "README.md"))
    try:
        for block in blocks:
            if block.file:
                Path(block.file.replace(_FOLDER, str(folder))).write_text(block.text)
                for part in ("calibration", "evaluation"):
                    Path(example[part]).rename(models / "data" / f"{part}.npz")
                Path(example["model"]).rename(models / "digits_cnn.onnx")
            elif block.language == "sh" and not block.not_run:
                reader.do(block)
                _look_at_what_came(reader, block)
        print("the pools of other kinds can be made", flush=True)
        for kind in _POOL_KINDS:
            reader.run(f"deployments/setup.sh {kind}")
    finally:
        reader.server.stop()


def _look_at_what_came(reader: Reader, block: Block) -> None:
    """Wait for what a command has begun; raises AssertionError when it does not come, or is not right."""
    folder = reader.folder
    if "setup.sh" in block.text:
        reader.run("prefect deployment schedule clear watch-models/watch-models --accept-yes")
    elif block.text.startswith("prefect deployment run watch-models"):
        first = _ended(reader, "watch-models", 1)[-1]
        assert first["state_name"] == "Completed", first
        current = json.loads((folder / "quantized/digits_cnn/current.json").read_text())
        model = folder / "quantized/digits_cnn" / current["model"]
        assert json.loads((model.parent / "manifest.json").read_text())["target"]["met"]
        assert eventually(lambda: _events(reader, "narrowcast.run.met"), 60, "the event of the run comes") == 1
        assert reader.server.flow_runs("probe-shard"), "no shard has run on the pool"
    elif block.text.startswith("prefect event emit"):
        second = _ended(reader, "watch-models", 2)[-1]
        assert second["state_name"] == "Completed", second
        assert second["parameters"]["model"] == "digits_cnn.onnx", second["parameters"]
        assert _events(reader, "narrowcast.run.met") == 1, "it was done again"
    elif block.text.startswith("prefect deployment run layer-wise"):
        (run,) = _ended(reader, "layer-wise", 1)
        assert run["state_name"] == "Completed", run
        assert json.loads((folder / "by-hand/manifest.json").read_text())["narrowed"]["layers"] == 2
    elif block.text.startswith("narrowcast auto"):
        assert json.loads((folder / "strict/manifest.json").read_text())["target"]["met"]


def _ended(reader: Reader, deployment: str, count: int) -> Sequence[dict[str, object]]:
    """So many runs of a deployment, once all of them have ended."""

    def ended() -> Sequence[dict[str, object]]:
        runs = reader.server.flow_runs(deployment)
        final = ("Completed", "Failed", "Crashed", "Cancelled")
        return runs if len(runs) >= count and all(run["state_name"] in final for run in runs) else []

    try:
        return eventually(ended, 900, f"{count} runs of {deployment} end")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{reader.server.log('worker')[-5000:]}") from error


def _events(reader: Reader, name: str) -> int:
    """How many events of a name there are; each must say what it is about."""
    time.sleep(3)  # one that comes late must be counted
    found = reader.server.post("/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50})["events"]
    for event in found:
        roles = {related["prefect.resource.role"] for related in event["related"]}
        assert roles >= {"narrowcast-output", "flow-run", "deployment", "work-pool"}, roles
    return len(found)


def main() -> int:
    """Follow the page in a folder of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        run_page(Path(name))
    print(f"every command did what the page says; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
