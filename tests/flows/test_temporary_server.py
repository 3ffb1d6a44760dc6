"""The server of one run: there when needed, gone when the run is."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, Settings

from flows import temporary_server
from flows.temporary_server import prefect_server
from quant_core.errors import InputError

SERVED = """
import time
from prefect.settings import PREFECT_API_URL
from flows.temporary_server import prefect_server
with prefect_server() as server, server.serving():
    print(PREFECT_API_URL.value(), flush=True)
    time.sleep(600)
"""


RAN = """
import time
from prefect import flow, task
from flows.temporary_server import prefect_server

@task
def step(): ...

@flow
def run():
    for _ in range(3):
        step()

with prefect_server() as server, server.serving():
    run()
    print("done", flush=True)
    time.sleep(600)
"""


def answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_the_environment_names_is_used(monkeypatch):
    monkeypatch.setattr(temporary_server, "_started", lambda port, errors: pytest.fail("started another"))
    with prefect_server() as server, server.serving():
        pass


def test_a_server_that_the_profile_names_is_used_and_the_one_started_dropped(monkeypatch):
    started = []

    def noted(port, errors):
        started.append(subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, stderr=errors))
        return started[0]

    configured = PREFECT_API_URL.value()  # which the tests' own server has set in Prefect's settings
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setattr(temporary_server, "_started", noted)
    with prefect_server() as server, server.serving():
        assert PREFECT_API_URL.value() == configured
        assert started[0].wait(timeout=10) == -signal.SIGKILL


def test_no_prefect_is_imported_for_a_run_that_is_refused():
    command = [sys.executable, "-X", "importtime", "-m", "flows.temporary_server", "9"]
    ended = subprocess.run(command, check=True, input="", capture_output=True, text=True, timeout=60)
    imported = {line.rsplit("|", 1)[-1].strip() for line in ended.stderr.splitlines()}
    assert "fastapi.applications" in imported
    assert "prefect" not in imported


def test_the_server_does_not_outlive_a_kill_of_its_run(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", SERVED], env=environment, stdout=subprocess.PIPE, text=True) as run:
        port = int(run.stdout.readline().split(":")[2].split("/")[0])
        assert answers(port)
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while answers(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers(port)


def test_what_tasks_told_the_server_outlives_a_kill_of_their_run(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", RAN], env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "done\n"
        time.sleep(1)  # the last of it is on its way, and no batch is full
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        while len(states := _states(database)) < 9 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert sorted(states) == sorted(["Pending", "Running", "Completed"] * 3)


def _states(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("select name from task_run_state")]


def test_the_own_server_is_set_up_by_names_that_prefect_knows(monkeypatch):
    for name, value in temporary_server._SERVER_SETTINGS.items():
        monkeypatch.setenv(name, value)
    services = Settings().server.services
    assert services.task_run_recorder.batch_size == services.event_persister.batch_size == 100
    assert not services.triggers.enabled


def test_a_run_whose_server_dies_ends_and_says_so(tmp_path):
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path)}
    environment.pop("PREFECT_API_URL", None)
    run = subprocess.Popen(
        [sys.executable, "-c", SERVED], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout.readline().startswith("http")
    (server,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(server), signal.SIGKILL)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 1
    assert errors == "narrowcast: Prefect's server died; run the same command again to go on from here\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise OSError('no room')", "Prefect's server did not start, with its database in .+: OSError: no room"),
        ("import sys; print('<no Python frame>', file=sys.stderr)", "Prefect's server did not start, .+: it ended"),
        (
            "raise OSError('Can\\'t locate revision')",
            "the database in .+ is of a newer Prefect: set PREFECT_HOME to .+",
        ),
        (
            "raise OSError('unable to open database file')",
            "Prefect cannot write its database in .+: set PREFECT_HOME to another folder",
        ),
    ],
    ids=["said", "unsaid", "a newer Prefect", "a folder that cannot be written to"],
)
def test_a_server_that_cannot_start_says_why(tmp_path, script, reason):
    with (
        (tmp_path / "errors").open("w+b") as errors,
        subprocess.Popen([sys.executable, "-c", script], stderr=errors) as process,
    ):
        process.wait()
        with pytest.raises((RuntimeError, InputError), match=f"^{reason}$"):
            temporary_server._wait(process, "http://127.0.0.1:9", errors)


def test_a_home_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "file" / "home")}
    environment.pop("PREFECT_API_URL", None)
    served = "from flows.command_line import set_up_process; set_up_process()\n" + SERVED
    command = [sys.executable, "-c", served]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stderr.endswith("/file/home: set PREFECT_HOME to another folder\n")
    assert "Warning" not in run.stderr
