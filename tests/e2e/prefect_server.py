"""A Prefect server in a process of its own, with deployments and workers, each of them killable."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

_ROOT = Path(__file__).parents[2]
_PROMPT = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "3",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def eventually(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first truthy value of a condition; raises AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):  # a busy server lets some questions go unanswered
            if found := condition():
                return found
        time.sleep(1.0)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PrefectServer:
    """A running server and what talks to it."""

    def __init__(self, folder: Path, database: str | None = None, ui: bool = False, started: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._port = str(free_port())
        self.url, self._folder = f"http://127.0.0.1:{self._port}/api", folder
        database = database or f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            **_PROMPT,
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.url,
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_UI_ENABLED": str(ui).lower(),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        if started:
            self.start_server()

    def start_server(self) -> None:
        """Start the server itself."""
        self.background(["server", "start", "--host", "127.0.0.1", "--port", self._port], "server")
        eventually(self._answers, 120, "the server answers")

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/health", timeout=2):
                return True
        except OSError:
            return False

    def background(self, arguments: Sequence[str], name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a prefect command that goes on until it is killed."""
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                stdout=log,
                stderr=log,
                env=self.environment | environment,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def prefect(self, *arguments: str) -> str:
        """Run a prefect command from the top of the repository; its output."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=_ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def deploy(self, name: str, *options: str, **parameters: Any) -> None:
        """Deploy from deployments/prefect.yaml, with parameters over those there."""
        given = ["--params", json.dumps(parameters)] if parameters else []
        said = self.prefect("deploy", "--name", name, "--prefect-file", "deployments/prefect.yaml", *given, *options)
        assert "successfully created" in said, said

    def worker(self, name: str, limit: int, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of the pool `narrowcast`."""
        arguments = ["worker", "start", "--pool", "narrowcast", "--name", name, "--limit", str(limit)]
        return self.background(arguments, name, **environment)

    def post(self, route: str, body: Any) -> Any:
        """Ask the API."""
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        with urlopen(Request(f"{self.url}{route}", data, headers), timeout=30) as answer:
            return json.load(answer)

    def flow_runs(self, deployment: str) -> list[dict[str, Any]]:
        """Runs of a deployment, the one that began first, first."""
        found = self.post(
            "/flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
        )
        return list(found)

    def workers_of(self, flow_runs: Sequence[dict[str, Any]]) -> set[str]:
        """Names of the workers that took them."""
        asked = {"filter": {"event": {"name": ["prefect.worker.submitted-flow-run"]}}, "limit": 50}
        runs = {f"prefect.flow-run.{run['id']}" for run in flow_runs}
        return {
            event["resource"]["prefect.resource.name"]
            for event in self.post("/events/filter", asked)["events"]
            if runs & {related["prefect.resource.id"] for related in event["related"]}
        }

    def log(self, name: str) -> str:
        """What a process has printed."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """Kill all that is left."""
        for process in reversed(self._processes):
            kill_all_of(process)


def kill_all_of(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and everything it has started, as a machine's end would."""
    for pid in [*_descendants(process.pid), process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(parent: int) -> list[int]:
    """Processes under one, whatever their session."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, frontier = [], [parent]
    while frontier:
        frontier = [pid for pid, above in parents.items() if above in frontier]
        found += frontier
    return found


@contextmanager
def prefect_server(folder: Path, database: str | None = None, ui: bool = False) -> Iterator[PrefectServer]:
    """A server for the time of the block, with the pool `narrowcast`; `ui`: with its pages too."""
    server = PrefectServer(folder, database, ui)
    try:
        server.prefect("work-pool", "create", "narrowcast", "--type", "process")
        yield server
    finally:
        server.stop()
