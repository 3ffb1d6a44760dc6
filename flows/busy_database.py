"""Lets a run's own server ask for a request again soon where its database was locked.

SQLite lets one write at a time, and refuses some at once that would have to wait. Prefect's server then answers 503,
and its client tries again after two seconds, four, and so on, unless the answer says when.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["MOST_TRIES", "AskAgainSoon"]

_SECONDS = 0.1
"""A transaction of the server takes some milliseconds, and a batch of events some tens."""

MOST_TRIES = 300
"""How often a client is to try a request before its run fails: for half a minute at least."""

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, Callable[[], Awaitable[_Message]], _Send], Awaitable[None]]


class AskAgainSoon:
    """An ASGI application that says when to try again in each answer of status 503."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: _Send) -> None:
        """Answer as the application does, with the header Retry-After where it is unavailable."""

        async def answer(message: _Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                message["headers"] = [*message.get("headers", ()), (b"retry-after", str(_SECONDS).encode())]
            await send(message)

        await self._app(scope, receive, answer)
