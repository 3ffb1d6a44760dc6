"""A proxy before an HTTP server on loopback that fails as stores do: its own errors, lost connections, outages."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

FAULTS = ("answers 500", "drops the request", "does it and drops the answer", "breaks off in the answer")

_KEPT_BACK = frozenset(["connection", "transfer-encoding", "content-length", "keep-alive"])


class FaultyProxy(ThreadingHTTPServer):
    """Hands requests on to a server, but for a share of them, drawn by a seed."""

    daemon_threads = True

    def __init__(self, port: int, share: float, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port, self.share, self.faults = port, share, Counter[str]()
        self.requests = 0
        """Requests seen, failed ones included."""
        self.read = Counter[str]()
        """GETs by path, without its query."""
        self._chance, self._lock = random.Random(seed), Lock()
        self._outage = (0, 0.0)
        self._down_until = 0.0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def go_down(self, after: int, seconds: float) -> None:
        """Drop everything for some seconds, once so many more requests have come."""
        self._outage = (self.requests + after, seconds)

    def fault(self) -> str | None:
        """What goes wrong with the next request."""
        with self._lock:
            self.requests += 1
            at, seconds = self._outage
            if seconds and self.requests >= at:
                self._outage, self._down_until = (0, 0.0), time.monotonic() + seconds
            if time.monotonic() < self._down_until:
                found: str | None = "is down"
            else:
                found = self._chance.choice(FAULTS) if self._chance.random() < self.share else None
            if found:
                self.faults[found] += 1
            return found

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _handle(self) -> None:
        fault = self.server.fault()
        self.server.read[self.path.partition("?")[0]] += self.command == "GET"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) if fault != "is down" else b""
        if fault in ("is down", "drops the request"):
            self.close_connection = True
        elif fault == "answers 500":
            self._answer(500, {"Content-Type": "application/xml"}, _INTERNAL_ERROR)
        else:
            self._hand_on(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _hand_on(self, body: bytes, fault: str | None) -> None:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException):
            self.close_connection = True
            return
        finally:
            connection.close()
        if fault == "does it and drops the answer":
            self.close_connection = True
            return
        self._answer(response.status, _headers(response), content, broken=fault is not None)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, broken: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if broken else content)
        self.close_connection |= broken


_INTERNAL_ERROR = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


def _headers(response: HTTPResponse) -> dict[str, str]:
    kept = {name: value for name, value in response.getheaders() if name.lower() not in _KEPT_BACK}
    length = response.getheader("Content-Length")
    return kept | ({"Content-Length": length} if length is not None else {})


@contextmanager
def faulty_proxy(port: int, share: float, seed: int = 0) -> Iterator[FaultyProxy]:
    """A proxy before the server at a port, for the time of the block."""
    with FaultyProxy(port, share, seed) as proxy:
        Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
