"""How bodies may be packed, and what JSON may begin with."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar, Request, post
from litestar.params import JSONBody

from wherry.http.framework import litestar_options
from wherry.http.requests import content_coding, json_within

MAX_BYTES = 5000
ASKED = b'{"user": {"name": "Ann"}}'


def _gzip(content: bytes) -> bytes:
    """The same bytes every time, as the names of these tests hold them."""
    return gzip.compress(content, mtime=0)


class User(msgspec.Struct):
    name: str


class Body(msgspec.Struct):
    user: User


@post("/api/typed", request_max_body_size=MAX_BYTES)
async def typed(data: JSONBody[Body]) -> str:
    return data.user.name


@post("/api/untyped", request_max_body_size=MAX_BYTES)
async def untyped(request: Request[Any, Any, Any]) -> str:
    return str((await request.json())["user"]["name"])


@post("/api/streamed", request_max_body_size=None)
async def streamed(request: Request[Any, Any, Any]) -> str:
    return str((await json_within(request, MAX_BYTES))["user"]["name"])


@post("/api/file")
async def file(request: Request[Any, Any, Any]) -> dict[str, str | None]:
    return {"coding": content_coding(request, "gzip", "zstd")}


@post("/api/form")
async def form(request: Request[Any, Any, Any]) -> None:
    content_coding(request)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar([typed, untyped, streamed, file, form], **litestar_options())
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as speaking:
        yield speaking


async def _post(client: httpx.AsyncClient, path: str, content: bytes, coding: str = "") -> httpx.Response:
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": coding} if coding else {})
    return await client.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", ["/api/typed", "/api/untyped", "/api/streamed"])
@pytest.mark.parametrize(
    ("content", "coding"),
    [
        (ASKED, "identity"),
        (b"\xef\xbb\xbf" + ASKED, ""),
        (_gzip(ASKED), "gzip"),
        (_gzip(ASKED), "X-Gzip"),
        (_gzip(b"\xef\xbb\xbf" + ASKED[:5]) + _gzip(ASKED[5:]), "gzip"),
    ],
)
async def test_json_may_be_packed_and_begin_with_a_mark(
    client: httpx.AsyncClient, path: str, content: bytes, coding: str
) -> None:
    answer = await _post(client, path, content, coding)
    assert (answer.status_code, answer.text) == (201, "Ann")


@pytest.mark.parametrize("path", ["/api/typed", "/api/untyped", "/api/streamed"])
@pytest.mark.parametrize(
    ("content", "coding", "status"),
    [
        (ASKED, "gzip", 400),
        (_gzip(ASKED)[:-5], "gzip", 400),
        (_gzip(b"\xef\xbb\xbf{"), "gzip", 400),
        (b"\xef\xbb\xbf\xef\xbb\xbf" + ASKED, "", 400),
        (_gzip(b" " * 50_000_000), "gzip", 413),
        (b" " * (MAX_BYTES + 1), "", 413),
        (ASKED, "br", 415),
        (ASKED, "gzip, gzip", 415),
    ],
)
async def test_json_that_is_packed_wrongly_or_too_large(
    client: httpx.AsyncClient, path: str, content: bytes, coding: str, status: int
) -> None:
    answer = await _post(client, path, content, coding)
    assert answer.status_code == status
    assert answer.headers.get("Accept-Encoding") == ("gzip" if status == 415 else None)


async def test_what_is_wrong_with_a_packed_body_is_named(client: httpx.AsyncClient) -> None:
    answer = await _post(client, "/api/typed", _gzip(b'{"user": {"name": 5}}'), "gzip")
    assert (answer.status_code, answer.json()["errors"]) == (422, {"name": ["must be a string"]})


@pytest.mark.parametrize(
    ("given", "coding"), [("x-gzip", "gzip"), ("GZIP", "gzip"), ("zstd", "zstd"), ("identity", None), ("", None)]
)
async def test_a_file_has_the_coding_that_it_says(client: httpx.AsyncClient, given: str, coding: str | None) -> None:
    assert (await _post(client, "/api/file", b"", given)).json() == {"coding": coding}


@pytest.mark.parametrize(("path", "readable"), [("/api/file", "gzip, zstd"), ("/api/form", "identity")])
async def test_another_coding_is_refused_with_those_there_are(
    client: httpx.AsyncClient, path: str, readable: str
) -> None:
    answer = await _post(client, path, b"", "deflate")
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, readable)
