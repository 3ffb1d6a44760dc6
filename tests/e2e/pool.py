"""A run on a work pool, one of whose two workers is killed: python -m tests.e2e.pool [--postgresql]

The deployment is started by its schedule; probe shards run on both workers; the worker that does not run the flow
itself is killed with all its processes while one of its shards computes. The run must end with the model that
threads of one process write.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.demo import write_example
from quant_core import auto_mixed_precision
from quant_core.config import config_from
from tests.e2e.prefect_server import PrefectServer, eventually, free_port, kill_all_of, prefect_server

_CONFIG = {"target": {"metric": "l2", "limit": 0.6}, "narrow": ["a8w8", "a8w4"]}
_LIMIT_SECONDS = 300

# For the worker that is to be lost: its second shard and all later ones take for ever.
_SLOW = """
import os, sys, time
if "prefect.engine" in " ".join(sys.orig_argv):
    import onnxruntime
    opened = onnxruntime.InferenceSession.__init__
    try:
        os.close(os.open({marker!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        onnxruntime.InferenceSession.__init__ = lambda *_, **__: time.sleep(3600)
"""


@dataclass(frozen=True)
class Ending:
    """What came of a run."""

    state: str
    """Of the flow run."""
    workers: set[str]
    """Those that were given probe shards."""
    shards: dict[str, int]
    """How many runs of shards ended in which state."""
    model: bytes
    """The model that was written."""
    expected: bytes
    """The model that threads of one process write."""
    seconds: float
    """From the first shard to the end."""


def run_with_a_lost_worker(folder: Path, database: str | None = None) -> Ending:
    """Start everything, kill one worker, and wait for the end."""
    paths = write_example(folder / "data")
    with prefect_server(folder / "server", database) as server:
        server.prefect("automation", "create", "--from-file", "deployments/automations.yaml")
        server.deploy("probe-shard")
        out, places = folder / "out", {"output": str(folder / "out"), "workspace": str(folder / "workspace")}
        server.deploy("auto-mixed-precision", "--cron", "* * * * *", config=_CONFIG, **paths, **places)
        steady = server.worker("steady", limit=2)
        try:
            eventually(
                lambda: _states(server, "auto-mixed-precision").get("Running"), 240, "the schedule starts the run"
            )
            began = time.monotonic()
            _lose_a_worker(server, folder)
            eventually(
                lambda: not (_states(server, "auto-mixed-precision").keys() & {"Running"}), _LIMIT_SECONDS, "it ends"
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{server.log('steady')[-5000:]}") from error
        seconds = time.monotonic() - began
        steady.terminate()
        first = server.flow_runs("auto-mixed-precision")[0]
        shards = _states(server, "probe-shard")
        workers = server.workers_of(server.flow_runs("probe-shard"))
        if first["state_name"] != "Completed":
            raise AssertionError(f"the run is {first['state_name']}\n{server.log('steady')[-5000:]}")
    return Ending(
        first["state_name"], workers, shards, (out / "model.onnx").read_bytes(), _expected(paths, folder), seconds
    )


def _lose_a_worker(server: PrefectServer, folder: Path) -> None:
    """Start another worker, and kill it when it computes its second shard."""
    (folder / "slow").mkdir()
    marker = folder / "slow" / "first shard"
    (folder / "slow" / "sitecustomize.py").write_text(_SLOW.format(marker=str(marker)))
    path = os.pathsep.join([str(folder / "slow"), os.environ.get("PYTHONPATH", "")])
    doomed = server.worker("doomed", limit=1, PYTHONPATH=path)
    eventually(marker.exists, 240, "the second worker has a shard")
    eventually(lambda: "doomed" in _workers_of_running(server), 240, "it computes its second shard")
    kill_all_of(doomed)


def _workers_of_running(server: PrefectServer) -> set[str]:
    """Workers whose shards have been computing for longer than a shard takes."""
    shards = server.flow_runs("probe-shard")
    return server.workers_of(
        [run for run in shards if run["state_name"] == "Running" and run["estimated_run_time"] > 4]
    )


def _states(server: PrefectServer, deployment: str) -> dict[str, int]:
    names = [run["state_name"] for run in server.flow_runs(deployment)]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def _expected(paths: dict[str, str], folder: Path) -> bytes:
    auto_mixed_precision(config=config_from(**_CONFIG), output=folder / "expected", **paths)
    return (folder / "expected" / "model.onnx").read_bytes()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of Debian's packages, for the time of the block; its URL."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    port, data = str(free_port()), folder / "postgresql"
    data.mkdir(parents=True)
    shutil.chown(data, "postgres")
    as_owner = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
    flags = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
    initdb = [*as_owner, binaries / "initdb", "-A", "trust", "-D", data / "db"]
    subprocess.run(initdb, cwd=data, check=True, capture_output=True)
    control = [*as_owner, binaries / "pg_ctl", "-D", data / "db", "-l", data / "log", "-w"]
    subprocess.run([*control, "-o", flags, "start"], cwd=data, check=True, stdout=subprocess.DEVNULL)
    try:
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], cwd=data, check=True, stdout=subprocess.DEVNULL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgresql", action="store_true", help="keep Prefect's records there, not in SQLite")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        if options.postgresql:
            with postgresql(folder) as url:
                ending = run_with_a_lost_worker(folder, url)
        else:
            ending = run_with_a_lost_worker(folder)
    same = ending.model == ending.expected
    print(f"{ending.state} {ending.seconds:.0f} s after it began; shards {ending.shards} on {sorted(ending.workers)}")
    print("the same model as from threads" if same else "another model than from threads")
    return 0 if same and ending.state == "Completed" else 1


if __name__ == "__main__":
    sys.exit(main())
