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
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from tempfile import TemporaryFile
from threading import Event, Thread
from typing import IO, Protocol, cast
from urllib.error import URLError
from urllib.request import urlopen

__all__ = ["ConfiguredServer", "OwnServer", "RunServer", "prefect_server"]

_START_SECONDS = 180  # the first start of a version of Prefect also runs its migrations
_END_SECONDS = 5
_HEARTBEAT_SECONDS = 30


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
        server = OwnServer(_started(port, errors), f"http://127.0.0.1:{port}/api", errors)
        try:
            yield server
        finally:
            server.drop_unless_used()


class RunServer(Protocol):
    """The server that a run will have."""

    def begin(self) -> None:
        """Let the server start, for the run will not be refused: its seconds pass while this process gets ready."""

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

    def __init__(self, process: subprocess.Popen[bytes], url: str, errors: IO[bytes]) -> None:
        self._process, self._url, self._errors = process, url, errors
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
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        if PREFECT_API_URL.value():
            self._process.kill()
            with ConfiguredServer().serving():
                yield
            return
        self.begin()
        self._used = True
        # Nobody looks for this run's heartbeats, and the flow would wait half a second for the last one.
        with temporary_settings(updates={PREFECT_API_URL: self._url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            _wait(self._process, self._url, self._errors)
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
    # Prefect would count each run as an installation of a server.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
}


def _wait(process: subprocess.Popen[bytes], url: str, errors: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["it ended"]
            raise RuntimeError(f"Prefect's server did not start: {last[0]}")
        try:
            with urlopen(f"{url}/health", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"Prefect's server did not answer within {_START_SECONDS} s")


def main() -> None:
    """Serve on the port given from the first line of standard input on, until that is closed."""
    # A run waits for the imports, a fifth of which would be looks at objects that are all there to stay.
    gc.disable()
    # What Prefect builds on, while the run's input is looked at; Prefect itself only for a run that is not refused.
    import fastapi  # noqa: F401
    import sqlalchemy.ext.asyncio  # noqa: F401
    import uvicorn

    if not sys.stdin.buffer.readline():
        return
    Thread(target=_end_with_the_pipe, daemon=True).start()
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_API_DATABASE_MIGRATE_ON_START, temporary_settings

    from flows.server_database import make_database

    migrated = make_database()
    gc.freeze()  # Prefect collects once when it makes the app, and would look at all of it
    app = create_app()
    gc.freeze()
    gc.enable()
    with temporary_settings(updates={PREFECT_API_DATABASE_MIGRATE_ON_START: False} if migrated else {}):
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", lifespan="on")


def _end_with_the_pipe() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
