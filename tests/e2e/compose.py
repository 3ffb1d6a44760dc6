"""The containers of deployments/compose.yaml, built, started and used: python -m tests.e2e.compose

It needs a Docker engine with `docker compose`, the three images that are not ours, and the ports 4200 and 7070. All of
it is a Compose project of its own, removed at the end with its volumes; an installation that is there is left alone.

The demo's model is put into the store, and a look at it is asked for. The worker that runs it is killed: the server
must mark the run as crashed. Of a second look, the worker that does not run it is killed when it has been given a
probe shard. What is published must be the model that threads of one process write.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from flows.demo import write_example
from flows.watch.watched_folder import FOLDER_OPTIONS
from quant_core import auto_mixed_precision
from quant_core.config import config_from
from tests.e2e.prefect_server import PrefectServer, eventually

_FOLDER = Path(__file__).parents[2] / "deployments"
_PROJECT = "narrowcast-e2e"
_PARTS = ("calibration", "evaluation")
_OPTIONS = """
max_l2: 0.6
narrow: [a8w8, a8w4]
calibration: data/calibration.npz
evaluation: data/evaluation.npz
"""

# With what the image has: the store's addresses and credentials are in the worker's environment.
_PUT = """
import sys, fsspec
with fsspec.open(sys.argv[1], "wb") as file:
    file.write(sys.stdin.buffer.read())
"""
_GET = "import sys, fsspec; sys.stdout.buffer.write(fsspec.open(sys.argv[1], 'rb').open().read())"


class Installation:
    """The services of the file, running."""

    def __init__(self, folder: Path) -> None:
        names = ("POSTGRES_PASSWORD", "STORE_USER", "STORE_PASSWORD")
        self._environment = {**os.environ, **{name: secrets.token_hex(8) for name in names}}
        self.server = PrefectServer(folder, started=False)
        self.server.url = "http://127.0.0.1:4200/api"

    def docker(self, *arguments: str, given: bytes | None = None, errors: int | None = None) -> bytes:
        """Run a docker command; its output. `errors`: where its standard error goes, as for Popen."""
        done = subprocess.run(
            ["docker", *arguments],
            cwd=_FOLDER,
            env=self._environment,
            input=given or b"",
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.returncode}")
        return done.stdout

    def compose(self, *arguments: str, given: bytes | None = None) -> bytes:
        """Run a docker compose command; its output."""
        return self.docker("compose", "--project-name", _PROJECT, *arguments, given=given)

    def in_worker(self, *command: str, given: bytes | None = None) -> bytes:
        """Run a command in the container of a worker that is alive; its output."""
        return self.docker("exec", "--interactive", self.workers()[0], *command, given=given)

    def log(self, container: str) -> str:
        """What a container has printed."""
        return self.docker("logs", container, errors=subprocess.STDOUT).decode(errors="replace")

    def workers(self) -> list[str]:
        """The running containers of workers."""
        return self.compose("ps", "--quiet", "worker").decode().split()


def use(installation: Installation, folder: Path) -> None:
    """Have a model quantized, with workers lost; raises AssertionError where anything is not as it must be."""
    server = installation.server
    page = urlopen("http://127.0.0.1:4200/", timeout=30)
    assert page.headers.get_content_type() == "text/html", "Prefect's page is not served"

    paths = write_example(folder)
    given = {f"data/{part}.npz": Path(paths[part]).read_bytes() for part in _PARTS}
    given |= {FOLDER_OPTIONS: _OPTIONS.encode(), "digits_cnn.onnx": Path(paths["model"]).read_bytes()}
    for name, content in given.items():
        installation.in_worker("python", "-c", _PUT, f"s3://narrowcast/models/{name}", given=content)

    # Of looks at one folder, one at a time goes on: the one that is asked for must not meet one that is due.
    installation.in_worker("prefect", "deployment", "schedule", "clear", "watch-models/watch-models", "--accept-yes")
    assert len(installation.workers()) == 2

    run, worker = _look(installation)
    eventually(lambda: _state(server, run) == "Running", 120, "it runs")
    installation.docker("kill", worker)
    print("the worker that looks is killed", flush=True)
    eventually(lambda: _state(server, run) == "Crashed", 300, "the server marks it as crashed")
    print("its run is marked as crashed", flush=True)
    installation.docker("start", worker)

    run, worker = _look(installation)
    (other,) = {*installation.workers()} - {worker}
    eventually(lambda: _has_a_shard(installation, other), 300, "the other worker is given a shard")
    installation.docker("kill", other)
    print("the other worker is killed", flush=True)
    eventually(lambda: _state(server, run) not in ("Pending", "Running"), 900, "the look ends")
    assert _state(server, run) == "Completed", f"{_state(server, run)}\n{installation.log(worker)[-5000:]}"
    states = [shard["state_name"] for shard in server.flow_runs("probe-shard")]
    print("shards:", {name: states.count(name) for name in sorted({*states})}, flush=True)

    place = "s3://narrowcast/quantized/digits_cnn"
    current = json.loads(installation.in_worker("python", "-c", _GET, f"{place}/current.json"))
    model = installation.in_worker("python", "-c", _GET, f"{place}/{current['model']}")
    config = config_from(target={"metric": "l2", "limit": 0.6}, narrow=["a8w8", "a8w4"])
    data = {name: paths[name] for name in ("model", *_PARTS)}
    auto_mixed_precision(config=config, output=folder / "expected", **data)
    assert hashlib.sha256(model).hexdigest() == current["sha256"]
    assert model == (folder / "expected" / "model.onnx").read_bytes(), "another model than from threads"


def _look(installation: Installation) -> tuple[str, str]:
    """Ask for a look at the folder; the flow run, and the container of the worker that has taken it."""
    installation.in_worker("prefect", "deployment", "run", "watch-models/watch-models")
    run = installation.server.flow_runs("watch-models")[-1]["id"]
    print("a look is asked for", flush=True)
    takers = eventually(
        lambda: [name for name in installation.workers() if run in installation.log(name)], 120, "a worker takes it"
    )
    return run, takers[0]


def _state(server: PrefectServer, run: str) -> str:
    return str({one["id"]: one for one in server.flow_runs("watch-models")}[run]["state_name"])


def _has_a_shard(installation: Installation, worker: str) -> bool:
    said = installation.log(worker)
    shards = installation.server.flow_runs("probe-shard")
    return any(shard["id"] in said for shard in shards if shard["state_name"] in ("Pending", "Running"))


def main() -> int:
    """Start everything, use it, and remove it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        installation = Installation(Path(name) / "server")
        try:
            installation.compose("up", "--build", "--detach")
            print(f"everything is started; {time.monotonic() - began:.0f} s", flush=True)
            use(installation, Path(name))
        except BaseException:
            print(installation.compose("logs", "--tail", "50").decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            installation.compose("down", "--volumes", "--timeout", "5")
    print(f"the same model as from threads; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
