"""HEAD is answered wherever GET is, with the same head and nothing else, and holds nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import HttpMethod, Litestar, Request, get, post, route
from litestar.response import ServerSentEvent, Stream
from litestar.response.sse import ServerSentEventMessage

from wherry.errors import JobNotFound
from wherry.http.framework import litestar_options
from wherry.http.streams import event_stream, sse_event

held: list[str] = []


async def _endless() -> AsyncGenerator[bytes, None]:
    held.append("a connection")
    try:
        while True:
            yield b"bytes"
            await asyncio.sleep(60)
    finally:
        held.remove("a connection")


async def _events() -> AsyncGenerator[ServerSentEventMessage, None]:
    async for _ in _endless():
        yield sse_event("progress", 1, {})


@get("/api/plain")
async def plain(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"method": request.method}


@get("/api/stream")
async def stream() -> Stream:
    return Stream(_endless(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


@get("/api/events", media_type="text/event-stream")
async def events() -> ServerSentEvent:
    return event_stream(_events())


@get("/api/fault")
async def fault() -> None:
    raise JobNotFound("no such job")


@route("/api/own", http_method=[HttpMethod.GET, HttpMethod.HEAD])
async def own(request: Request[Any, Any, Any]) -> Stream:
    body = [] if request.method == "HEAD" else [b"bytes"]
    return Stream(iter(body), media_type="text/plain", headers={"Content-Length": "5"})


@post("/api/posted")
async def posted() -> None:
    return


app = Litestar([plain, stream, events, fault, own, posted], **litestar_options())


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as speaking:
        yield speaking
    assert held == []


@pytest.mark.parametrize("path", ["/api/plain", "/api/fault", "/api/own"])
async def test_head_has_the_status_and_the_fields_of_get_and_no_body(client: httpx.AsyncClient, path: str) -> None:
    whole, head = [await client.request(method, path) for method in ("GET", "HEAD")]
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for answer in (whole, head):
        assert answer.headers.pop("X-Request-Id")
    assert dict(head.headers) == dict(whole.headers)
    assert head.headers["Content-Length"] == str(len(whole.content))


@pytest.mark.parametrize(
    ("path", "media_type"), [("/api/stream", "application/x-ndjson"), ("/api/events", "text/event-stream")]
)
async def test_head_of_a_stream_ends_at_once_and_gives_back_what_it_held(
    client: httpx.AsyncClient, path: str, media_type: str
) -> None:
    async with asyncio.timeout(5):
        head = await client.head(path)
    assert (head.status_code, head.content, head.headers["Cache-Control"]) == (200, b"", "no-store")
    assert head.headers["Content-Type"].startswith(media_type)
    assert "Content-Length" not in head.headers
    assert held == []


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/api/plain", {"GET", "HEAD"}), ("/api/own", {"GET", "HEAD"}), ("/api/posted", {"POST"})],
)
async def test_allow_names_head_beside_get(client: httpx.AsyncClient, path: str, methods: set[str]) -> None:
    for method, status in (("OPTIONS", 204), ("PATCH", 405)):
        answer = await client.request(method, path)
        assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (status, methods | {"OPTIONS"})


async def test_head_is_refused_where_there_is_no_get(client: httpx.AsyncClient) -> None:
    assert (await client.head("/api/posted")).status_code == 405
