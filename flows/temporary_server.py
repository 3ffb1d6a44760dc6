"""A Prefect server for one run, where none is configured. It ends with the process it serves, however that ends.

Prefect has a temporary server of its own, but a kill leaves it behind, and a Ctrl-C ends it before the run,
which then waits for it in vain.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import import_module
from tempfile import TemporaryFile
from threading import Event, Thread
from types import ModuleType
from typing import IO, TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from prefect.settings import Settings

__all__ = ["ConfiguredServer", "OwnServer", "RunServer", "prefect_server"]

_START_SECONDS = 180  # the first start of a version of Prefect also runs its migrations
_POLL_SECONDS = 0.01
_END_SECONDS = 5
_HEARTBEAT_SECONDS = 30
_MIGRATE = "PREFECT_API_DATABASE_MIGRATE_ON_START"
_COLLECT_AFTER = 50_000
"""New objects after which the server looks for cycles among them; a request makes thousands that are gone with it."""


@contextmanager
def prefect_server() -> Iterator[RunServer]:
    """Start the process of a server, which waits until a run is certain; no Prefect is imported here or there.

    Whether the user's profile names a server only Prefect knows. If it does, the one that was started is dropped
    as soon as Prefect is needed.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield ConfiguredServer()
        return
    with TemporaryFile() as errors:
        port = _free_port()
        server = OwnServer(_started(port, errors), port, errors)
        try:
            yield server
        finally:
            server.drop_unless_used()


class RunServer(Protocol):
    """The server that a run will have."""

    def begin(self) -> None:
        """Let the server start, as the run will not be refused: its seconds pass while this process gets ready."""

    def serving(self) -> AbstractContextManager[None]:
        """Return a block in which Prefect has the server; entering it waits until the server answers."""


class ConfiguredServer:
    """A server that the user has configured."""

    def begin(self) -> None:
        """Do nothing: it is there."""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Send heartbeats as often as deployments/automations.yaml expects them of a run that is alive."""
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: _HEARTBEAT_SECONDS}):
            yield


class OwnServer:
    """A server for one run, in a process that is there already."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, errors: IO[bytes]) -> None:
        self._process, self._port, self._errors = process, port, errors
        self._begun = self._used = False

    def begin(self) -> None:
        """Let the server start."""
        if not self._begun:
            self._begun = True
            with suppress(BrokenPipeError):  # it has ended: `serving` says why
                os.write(cast("IO[bytes]", self._process.stdin).fileno(), b"\n")

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Give Prefect the server while the block runs, unless the user's profile names another."""
        from prefect.settings import (
            PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
            PREFECT_API_URL,
            PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
            PREFECT_CLIENT_MAX_RETRIES,
            PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            temporary_settings,
        )

        from flows.busy_database import MOST_TRIES

        if PREFECT_API_URL.value():
            self._process.kill()
            with ConfiguredServer().serving():
                yield
            return
        self.begin()
        self._used = True
        ours = {
            PREFECT_API_URL: f"http://127.0.0.1:{self._port}/api",
            # Nobody looks for this run's heartbeats, and the flow would wait half a second for the last one.
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            # Each client would ask for a token first, and hear that there are none.
            PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
            # Where its database is locked it asks for another try soon, so there may be many.
            PREFECT_CLIENT_MAX_RETRIES: MOST_TRIES,
            # Its URL is plain http, for which each client would load all certificates.
            PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True,
            # It is of this very installation.
            PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
        }
        with temporary_settings(updates=ours):
            _wait(self._process, self._port, self._errors)
            over = Event()
            Thread(target=_end_with_the_server, args=(self._process, over), daemon=True).start()
            try:
                yield
            finally:
                over.set()

    def drop_unless_used(self) -> None:
        """End it if its run was refused. Else it goes on until this process has ended: Prefect still sends events."""
        if not self._used:
            self._process.kill()


def _end_with_the_server(process: subprocess.Popen[bytes], over: Event) -> None:
    """End this process when its server dies under it: Prefect would wait for an answer for ever."""
    process.wait()
    if not over.is_set():
        sys.stderr.write("narrowcast: Prefect's server died; run the same command again to go on from here\n")
        sys.stderr.flush()
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _started(port: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    # It holds the other end of a pipe that closes with this process. In a session of its own, it hears no Ctrl-C.
    return subprocess.Popen(
        [sys.executable, "-m", "flows.temporary_server", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
        env={**os.environ, **_SERVER_SETTINGS},
    )


_SERVER_SETTINGS = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    # No run uses a block; a server that the user starts on the same database registers them.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
    # Its automations are for servers that last; to be ready for them it would make the app a second time.
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "0",
    # Prefect would count each run as an installation of a server.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
    # What tasks tell it goes to its database in batches, not in a transaction for each state of each task.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    # Nobody's code but Prefect's calls what these would check the types of.
    "PY_KEY_VALUE_DISABLE_BEARTYPE": "true",
}


_UNWRITABLE = (
    "unable to open database file",
    "attempt to write a readonly database",
    "database or disk is full",
    "disk I/O error",
    "Permission denied",
    "Read-only file system",
    "No space left on device",
)
"""What SQLite and the system say of a folder that cannot be written to, or of a full disk."""


def _wait(process: subprocess.Popen[bytes], port: int, errors: IO[bytes]) -> None:
    """Wait until the server can be connected to, which is when it has started."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            errors.seek(0)
            told = [line for line in errors.read().decode(errors="replace").splitlines() if "Error" in line]
            from prefect.settings import PREFECT_HOME

            from quant_core.errors import InputError

            home, reason = PREFECT_HOME.value(), told[-1] if told else "it ended"
            if "Can't locate revision" in reason:
                raise InputError(f"the database in {home} is of a newer Prefect: set PREFECT_HOME to another folder")
            if any(refusal in reason for refusal in _UNWRITABLE):
                raise InputError(f"Prefect cannot write its database in {home}: set PREFECT_HOME to another folder")
            raise RuntimeError(f"Prefect's server did not start, with its database in {home}: {reason}")
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"Prefect's server did not answer within {_START_SECONDS} s")


_BENEATH_PREFECT = ("fastapi", "sqlalchemy.ext.asyncio", "uvicorn", "httpx", "docket")
"""What Prefect's server builds on: no more than is imported while a run's input is looked at. A refusal pays for it."""


def main() -> None:
    """Serve on the port given from the first line of standard input on, until that is closed."""
    # A run waits for the imports, a fifth of which would be looks at objects that are all there to stay.
    gc.disable()
    # While the run's options are read and its input is looked at; Prefect itself only for a run that is not refused.
    for name in _BENEATH_PREFECT:
        with suppress(ImportError):
            import_module(name)
    if not sys.stdin.buffer.readline():
        return
    Thread(target=_end_with_the_pipe, daemon=True).start()
    # Most databases need no migration, and to say so once Prefect is imported would take it 20 ms.
    said = os.environ.get(_MIGRATE)
    os.environ[_MIGRATE] = "0"
    import uvicorn
    from prefect.server.api import server

    from flows.busy_database import AskAgainSoon
    from flows.server_database import make_database

    migrates = nullcontext() if make_database() else _migrations(said)
    _put_first(server, ("/flows", "/flow_runs", "/artifacts", "/events"))
    gc.freeze()  # Prefect collects once when it makes the app, and would look at all of it
    app = server.create_app()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    gc.enable()
    with migrates:
        uvicorn.run(AskAgainSoon(app), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="on")


def _migrations(said: str | None) -> AbstractContextManager[Settings]:
    """Return a block in which the server migrates its database, unless the user's variable or profile forbids it."""
    from prefect.settings import PREFECT_API_DATABASE_MIGRATE_ON_START, Settings, temporary_settings

    del os.environ[_MIGRATE]
    os.environ.update({} if said is None else {_MIGRATE: said})
    return temporary_settings({PREFECT_API_DATABASE_MIGRATE_ON_START: Settings().server.database.migrate_on_start})


def _put_first(server: ModuleType, prefixes: Sequence[str]) -> None:
    """Let the API look among the routes that a run asks for first.

    FastAPI makes a router's routes ready when it first looks among them: those of all thirty take a fifth of a second.
    """
    if routers := getattr(server, "API_ROUTERS", ()):  # another Prefect may keep them elsewhere
        first = sorted(routers, key=lambda router: getattr(router, "prefix", "") not in prefixes)
        server.API_ROUTERS = tuple(first)  # type: ignore[attr-defined]


def _end_with_the_pipe() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
