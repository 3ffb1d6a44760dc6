"""When a client is asked to try again."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prefect.client.base import PrefectHttpxSyncClient

from flows.busy_database import AskAgainSoon


def answering(status):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"said"})

    return AskAgainSoon(app)


@pytest.mark.parametrize(("status", "said"), [(200, None), (409, None), (503, "0.1")])
def test_an_answer_says_when_to_try_again_if_the_server_is_unavailable(status, said):
    async def asked():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(answering(status)), base_url="http://server"
        ) as client:
            return await client.get("/")

    answer = asyncio.run(asked())
    assert (answer.status_code, answer.text, answer.headers.get("retry-after")) == (status, "said", said)
    assert answer.headers["content-type"] == "text/plain"


def test_prefects_client_tries_again_when_it_is_asked_to(monkeypatch):
    waited, answers = [], [httpx.Response(503, headers={"retry-after": "0.1"}), httpx.Response(200)]
    monkeypatch.setattr("prefect.client.base.time.sleep", waited.append)
    transport = httpx.MockTransport(lambda request: answers.pop(0))
    with PrefectHttpxSyncClient(transport=transport, base_url="http://server") as client:
        assert client.post("/").status_code == 200
    assert len(waited) == 1 and 0.1 <= waited[0] < 1
