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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from tempfile import TemporaryFile
from threading import Event, Thread
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

__all__ = ["Serving", "prefect_server"]

_START_SECONDS = 180  # the first start of a version of Prefect also runs its migrations
_END_SECONDS = 5
_HEARTBEAT_SECONDS = 30


Serving = Callable[[], AbstractContextManager[None]]
"""Makes a block in which Prefect has a server; entering it waits until the server answers."""


@contextmanager
def prefect_server() -> Iterator[Serving]:
    """Start a server, without importing Prefect here: its seconds pass while the block looks at its input.

    Whether the user's profile names a server only Prefect knows. If it does, the one that was started is dropped
    as soon as Prefect is needed.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield _with_heartbeats
        return
    with TemporaryFile() as errors:
        port = _free_port()
        process = _started(port, errors)
        with _dropped_unused(process) as used:
            yield partial(_serving, process, f"http://127.0.0.1:{port}/api", errors, used)
        # It is left to run until this process has ended: Prefect still sends events then.


@contextmanager
def _with_heartbeats() -> Iterator[None]:
    """Send heartbeats as often as a server with deployments/automations.yaml expects them of a run that is alive."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: _HEARTBEAT_SECONDS}):
        yield


@contextmanager
def _serving(process: subprocess.Popen[bytes], url: str, errors: IO[bytes], used: Event) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if PREFECT_API_URL.value():
        process.kill()
        with _with_heartbeats():
            yield
        return
    used.set()
    # Nobody looks for this run's heartbeats, and the flow would wait half a second for the last one.
    settings = {PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(updates=settings):
        _wait(process, url, errors)
        over = Event()
        Thread(target=_end_with_the_server, args=(process, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()


def _end_with_the_server(process: subprocess.Popen[bytes], over: Event) -> None:
    """End this process when its server dies under it: Prefect would wait for an answer for ever."""
    process.wait()
    if not over.is_set():
        sys.stderr.write("narrowcast: Prefect's server died; run the same command again to go on from here\n")
        sys.stderr.flush()
        os._exit(1)


@contextmanager
def _dropped_unused(process: subprocess.Popen[bytes]) -> Iterator[Event]:
    """End at once a server that nobody waited for: its run was refused."""
    used = Event()
    try:
        yield used
    finally:
        if not used.is_set():
            process.kill()


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
    """Serve on the port given, until standard input is closed."""
    Thread(target=_end_with_the_pipe, daemon=True).start()
    # A run waits for the imports, a fifth of which would be looks at objects that are all there to stay.
    gc.disable()
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_API_DATABASE_MIGRATE_ON_START, temporary_settings

    from flows.server_database import make_database

    migrated = make_database()
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
